"""The sum that layers add to, and its RMSNorm."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stentor.model.kernels_cpu.compiled import bits, cpu_kernel, read, rounded
from stentor.model.kernels_cpu.threads import blocks_of, over_row_blocks

_ROWS = 128


def add_rms_norm_forward(
    x_ND: Tensor, delta_ND: Tensor | None, gain_D: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x + delta (x itself without a delta), its norm, and 1 / rms of each row in float32.

    Args:
        x_ND: contiguous, like all others.
        delta_ND: of any type.
        gain_D: float32.
        eps: of the norm.
        dtype: of the norm's result.
    """
    sum_ND = x_ND if delta_ND is None else torch.empty_like(x_ND)
    normed_ND = torch.empty_like(x_ND, dtype=dtype)
    inverse_N = torch.empty(len(x_ND), dtype=torch.float32)
    delta = None if delta_ND is None else bits(delta_ND)
    arrays = bits(x_ND), delta, bits(gain_D), bits(sum_ND), bits(normed_ND), bits(inverse_N)
    epsilon = np.float32(eps)
    over_row_blocks(lambda _, start, end: _forward(*arrays, epsilon, start, end), len(x_ND), _ROWS)
    return sum_ND, normed_ND, inverse_N


@cpu_kernel
def _forward(
    x: Any, delta: Any, gain: Any, total: Any, normed: Any, inverse: Any, eps: Any, start: int, end: int
) -> None:
    width = x.shape[1]
    for row in range(start, end):
        if delta is not None:
            for column in range(width):
                total[row, column] = rounded(read(x[row, column]) + read(delta[row, column]), total)
        squares = np.float32(0.0)
        for column in range(width):
            value = read(total[row, column])
            squares += value * value
        scale = np.float32(1.0) / np.sqrt(squares / np.float32(width) + eps)
        inverse[row] = scale
        for column in range(width):
            normed[row, column] = rounded(read(total[row, column]) * scale * gain[column], normed)


def add_rms_norm_backward(
    sum_ND: Tensor,
    gain_D: Tensor,
    inverse_N: Tensor,
    upper_ND: Tensor | None,
    normed_grad_ND: Tensor,
    *,
    learns_gain: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the sum, in its type, and of the gain, float32 [D].

    Args:
        sum_ND: from the forward pass.
        gain_D: float32.
        inverse_N: from the forward pass.
        upper_ND: the gradient that reaches the sum past the norm, contiguous.
        normed_grad_ND: of the norm's result, contiguous.
        learns_gain: whether the gradient of the gain is wanted.
    """
    num_rows, width = sum_ND.shape
    grad_ND = torch.empty_like(sum_ND)
    gain_grads_PD = torch.empty(blocks_of(num_rows, _ROWS), width, dtype=torch.float32)
    upper = None if upper_ND is None else bits(upper_ND)
    arrays = (
        *(bits(sum_ND), bits(gain_D), bits(inverse_N), upper),
        *(bits(normed_grad_ND), bits(grad_ND), bits(gain_grads_PD)),
    )
    over_row_blocks(lambda block, start, end: _backward(*arrays, block, start, end), num_rows, _ROWS)
    return grad_ND, gain_grads_PD.sum(dim=0) if learns_gain else None


@cpu_kernel
def _backward(
    total: Any, gain: Any, inverse: Any, upper: Any, normed_grad: Any, grad: Any, gain_grads: Any,
    block: int, start: int, end: int,
) -> None:  # fmt: skip
    width = total.shape[1]
    for column in range(width):
        gain_grads[block, column] = np.float32(0.0)
    for row in range(start, end):
        scale, along = inverse[row], np.float32(0.0)
        for column in range(width):
            product = read(normed_grad[row, column]) * read(total[row, column]) * scale
            gain_grads[block, column] += product
            along += product * gain[column]
        along *= scale / np.float32(width)
        for column in range(width):
            value = read(normed_grad[row, column]) * gain[column] - read(total[row, column]) * along
            value *= scale
            if upper is not None:
                value += read(upper[row, column])
            grad[row, column] = rounded(value, grad)
