"""How each weight is stored in a GGUF file, and the values a reader gets back."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from stentor.model.names import EMBEDDING, HEAD

STORED_TYPES = {
    "float16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q5_0": GGMLQuantizationType.Q5_0,
    "q4_0": GGMLQuantizationType.Q4_0,
    "float32": GGMLQuantizationType.F32,
}
PLAIN = ("float16", "float32")
"""The dtypes that are no blocks."""


def dtype_of(name: str, dtype: str, *, is_tied: bool) -> str:
    """Return the dtype of one tensor in a file of some dtype.

    The matrix that makes the logits is Q8_0 where others are coarser: it is read for every token and every error in it
    is an error of the prediction. llama.cpp does the same, with Q6_K.

    Args:
        name: Hugging Face's.
        dtype: of the file.
        is_tied: whether the embedding makes the logits.

    Reference: llama.cpp, src/llama-quant.cpp, llama_tensor_get_type.
    """
    makes_logits = name == (EMBEDDING if is_tied else HEAD)
    return "q8_0" if makes_logits and dtype not in PLAIN else dtype


def activation_dtype(dtype: str) -> str:
    """Return what llama.cpp rounds the input of a product to whose matrix is stored in `dtype`."""
    return dtype if dtype in PLAIN else "q8_0"


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


def encode(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Return a tensor as its GGUF file stores it."""
    # A block of values too small for a scale becomes zeros, values too large for float16 infinities: no news.
    with np.errstate(over="ignore", invalid="ignore"):
        return quantize(np.ascontiguousarray(values), stored_type(values.shape, dtype))


def as_stored(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return the values a reader of the stored tensor sees: `values` rounded to what the type can hold."""
    return dequantize(encode(values, dtype), stored_type(values.shape, dtype)).reshape(values.shape)
