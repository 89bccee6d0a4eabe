"""Rounding that compensates its errors: what one weight loses, the weights that are still to be rounded make up for.

A product's inputs on a text say how much an error in each column matters and which columns can stand in for which. A
row is rounded column by column; each error is spread over the columns behind so that the product changes least.

Reference: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
arXiv 2210.17323, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stentor.export.scales import LOWEST, Floats, best_scales, in_blocks, whole_numbers
from stentor.model.config import ModelConfig
from stentor.model.folder import build_model
from stentor.model.names import parts
from stentor.model.quantized import BLOCK_SIZE, Quantized

DAMPING = 0.01
"""Added to the diagonal of each Hessian, as a share of its mean: no column is taken to be free of cost."""
_SMALLEST = 1e-12
"""Stands for that mean where no input is but zero."""
_ORDER = ("qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF")
"""The products of a layer, first to last."""


def compensated(
    config: ModelConfig, tensors: Mapping[str, Tensor], inputs_BT: NDArray[np.integer], dtype: str
) -> dict[str, Quantized]:
    """Return the matrices of all layers, rounded for a text.

    The text runs through the network once. Each matrix is rounded when its inputs arrive, and they have come through
    matrices that are rounded already.

    Args:
        config: the model's sizes; the rows of its matrices are multiples of 32.
        tensors: its weights under Hugging Face's names.
        inputs_BT: token ids of the text, in windows.
        dtype: a key of `LOWEST`.
    """
    model = build_model(config, tensors, origin="the model to export")
    rounding = _RoundedOnArrival(LOWEST[dtype], num_products=len(_ORDER) * config.num_hidden_layers)
    with torch.inference_mode(), rounding:
        model.hidden(torch.from_numpy(np.asarray(inputs_BT, dtype=np.int64)))
    found: dict[str, Quantized] = {}
    for index, (whole, scales) in enumerate(rounding.made):
        layer, product = divmod(index, len(_ORDER))
        start = 0
        for name, num_rows in parts(config)[_ORDER[product]]:
            rows = slice(start, start + num_rows)
            found[f"model.layers.{layer}.{name}.weight"] = in_blocks(whole[rows], scales[rows], dtype)
            start += num_rows
    return found


def compensate(
    weight_RC: Floats, hessian_CC: NDArray[np.float64], lowest: int
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Round a matrix so that its products with inputs like those of the Hessian change least.

    Args:
        weight_RC: the matrix.
        hessian_CC: the sum of x x^T over its inputs x.
        lowest: whole number of a block.

    Returns:
        Whole numbers [R, C / 32, 32] and the scale of each block [R, C / 32].
    """
    left_RC, spread_CC = weight_RC.copy(), _spread(hessian_CC)
    importance_C = np.diag(spread_CC) ** -2
    num_rows, num_columns = weight_RC.shape
    whole = np.zeros((num_rows, num_columns // BLOCK_SIZE, BLOCK_SIZE), dtype=np.int8)
    scales = np.zeros(whole.shape[:2], dtype=np.float16)
    for block in range(whole.shape[1]):
        inside = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
        values, spread = left_RC[:, inside].copy(), spread_CC[inside, inside]
        scales[:, block] = best_scales(values, lowest, importance_C[inside])
        steps, errors = scales[:, block].astype(np.float32), np.zeros_like(values)
        for column in range(BLOCK_SIZE):
            whole[:, block, column] = whole_numbers(values[:, column, None], scales[:, block], lowest)[:, 0]
            lost = values[:, column] - steps * whole[:, block, column]
            errors[:, column] = lost / spread[column, column]
            values[:, column:] -= np.outer(errors[:, column], spread[column, column:])
        behind = torch.from_numpy(left_RC)[:, inside.stop :]
        behind -= torch.from_numpy(errors) @ torch.from_numpy(spread_CC)[inside, inside.stop :]
    return whole, scales


def _spread(hessian_CC: NDArray[np.float64]) -> Floats:
    """Return the upper Cholesky factor of the inverse: row c tells where the error of column c goes."""
    damping = DAMPING * max(float(np.diag(hessian_CC).mean()), _SMALLEST)
    damped = torch.from_numpy(hessian_CC + damping * np.eye(len(hessian_CC)))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float().numpy()


class _RoundedOnArrival(TorchFunctionMode):
    """Round each weight as its product is about to be computed, and compute it with what was rounded."""

    def __init__(self, lowest: int, *, num_products: int) -> None:
        super().__init__()
        self._lowest, self._num_products = lowest, num_products
        self.made: list[tuple[NDArray[np.int8], NDArray[np.float16]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and len(self.made) < self._num_products:
            args = (args[0], self._round(args[0], args[1]))
        return func(*args, **(kwargs or {}))

    def _round(self, x: Tensor, weight_RC: Tensor) -> Tensor:
        x_NC = x.flatten(0, -2)
        hessian_CC = (x_NC.T @ x_NC).double().numpy()
        whole, scales = compensate(weight_RC.numpy(), hessian_CC, self._lowest)
        self.made.append((whole, scales))
        return torch.from_numpy((whole * scales.astype(np.float32)[..., None]).reshape(weight_RC.shape))
