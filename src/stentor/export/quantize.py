"""How each weight is stored in a GGUF file, and the values a reader gets back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.export.ggml import quantize_rows
from stentor.model.k_quants import SUPER_BLOCK_DTYPES
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.quantized import BLOCK_SIZE

STORED_TYPES = {
    "float16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q6_k": GGMLQuantizationType.Q6_K,
    "q5_1": GGMLQuantizationType.Q5_1,
    "q5_k": GGMLQuantizationType.Q5_K,
    "q5_0": GGMLQuantizationType.Q5_0,
    "q4_1": GGMLQuantizationType.Q4_1,
    "q4_k": GGMLQuantizationType.Q4_K,
    "q4_0": GGMLQuantizationType.Q4_0,
    "float32": GGMLQuantizationType.F32,
}
"""How a tensor may be stored."""
FILE_DTYPES = (
    *("float16", "q8_0", "q6_k", "q5_1", "q5_k_m", "q5_0", "q4_1", "q4_k_m", "q4_0"),
    *("int8", "float32"),
)
"""Of whole files: those of tensors, mixtures of them as llama.cpp names them, and `int8`, the weights that training
with `train.fake_quantize = "int8"` has felt."""
PLAIN = ("float16", "float32")
"""The dtypes that are no blocks."""
_MIXTURES = {"q4_k_m": "q4_k", "q5_k_m": "q5_k"}
"""Files in which some matrices are Q6_K, and what the others are."""
_SUPER_BLOCK = 256


def dtype_of(name: str, dtype: str, *, is_tied: bool, num_layers: int) -> str:
    """Return the dtype of one tensor in a file of some dtype.

    The matrix that makes the logits is Q8_0 where others are coarser: it is read for every token and every error in it
    is an error of the prediction. llama.cpp does the same, with Q6_K; so do files in K-quants here. In `int8` all but
    the matrices of layers is float32, as it was in training.

    Args:
        name: Hugging Face's.
        dtype: of the file, one of `FILE_DTYPES`.
        is_tied: whether the embedding makes the logits.
        num_layers: of the model.

    Reference: llama.cpp, src/llama-quant.cpp, llama_tensor_get_type.
    """
    makes_logits = name == (EMBEDDING if is_tied else HEAD)
    if dtype == "int8":
        return "float32" if name in (EMBEDDING, HEAD) else "q8_0"
    if dtype in PLAIN:
        return dtype
    if dtype in _MIXTURES:
        return "q6_k" if makes_logits or _is_finer(name, num_layers) else _MIXTURES[dtype]
    return dtype if dtype == "q6_k" or not makes_logits else "q8_0"


def _is_finer(name: str, num_layers: int) -> bool:
    """Tell whether a mixture stores a matrix in Q6_K: values and the MLP's output, in half of the layers."""
    if not name.endswith((".v_proj.weight", ".down_proj.weight")):
        return False
    layer, eighth = int(name.split(".")[2]), num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def activation_dtype(dtype: str) -> str:
    """Return what llama.cpp rounds the input of a product to whose matrix is stored in `dtype`."""
    if dtype in PLAIN:
        return dtype
    return "q8_k" if dtype.endswith("_k") else "q8_0"


def rounded_activations(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return the inputs of a product as llama.cpp rounds them to `dtype`, one of `activation_dtype`."""
    if dtype != "q8_k":
        return as_stored(values, dtype)
    blocks = values.reshape(-1, _SUPER_BLOCK)
    top = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    steps = np.divide(np.float32(-127), top, out=np.zeros_like(top), where=top != 0)
    whole = np.minimum(np.rint(blocks * steps), np.float32(127))
    return np.divide(whole, steps, out=np.zeros_like(blocks), where=steps != 0).reshape(values.shape)


def has_minima(dtype: str) -> bool:
    """Whether blocks of `dtype` begin at a least value of their own, which llama.cpp multiplies by a sum of inputs."""
    return dtype.endswith("_1")


def sum_errors(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much sums [..., blocks] of inputs differ in llama.cpp, which holds them in float16, from those of
    `rounded_activations`. Reference: `quantize_row_q8_1_ref` of ggml.
    """
    blocks = values.reshape(*values.shape[:-1], -1, BLOCK_SIZE)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    steps = np.divide(blocks, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] != 0)
    held = (scales * np.rint(steps).sum(axis=-1)).astype(np.float16).astype(np.float32)
    return held - as_stored(values, "q8_0").reshape(blocks.shape).sum(axis=-1)


def stored_type(shape: tuple[int, ...], dtype: str) -> GGMLQuantizationType:
    """Return the GGML type of one tensor.

    Norms are vectors and stay float32, as llama.cpp demands. A matrix whose rows cannot be cut into blocks of 32
    values is stored as float16 instead.

    Args:
        shape: of the tensor.
        dtype: a key of `STORED_TYPES`.
    """
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    wanted = STORED_TYPES[dtype]
    block_size, _ = GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block_size == 0 else GGMLQuantizationType.F16


def require_rows(dtype: str, widths: Iterable[int]) -> None:
    """Refuse a file in K-quants whose matrices have rows that no super-block divides.

    Args:
        dtype: of the file.
        widths: of the rows.

    Raises:
        UserError: one is no multiple of 256.
    """
    odd = [width for width in widths if width % _SUPER_BLOCK]
    if odd and (dtype in _MIXTURES or dtype.endswith("_k")):
        raise UserError(
            f"{dtype} stores {_SUPER_BLOCK} weights of a row together, and rows of {odd[0]} cannot be cut so",
            fix="choose another dtype, such as q4_0 or q5_0",
        )


def encode(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Return a tensor as its GGUF file stores it."""
    # A block of values too small for a scale becomes zeros, values too large for float16 infinities: no news.
    kind = stored_type(values.shape, dtype)
    if kind.name in SUPER_BLOCK_DTYPES:
        return quantize_rows(values, kind)
    with np.errstate(over="ignore", invalid="ignore"):
        return quantize(np.ascontiguousarray(values), kind)


def as_stored(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return the values a reader of the stored tensor sees: `values` rounded to what the type can hold."""
    return dequantize(encode(values, dtype), stored_type(values.shape, dtype)).reshape(values.shape)
