"""How each weight is stored in a GGUF file, and the values a reader gets back."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

STORED_TYPES = {
    "float32": GGMLQuantizationType.F32,
    "float16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
}


def stored_type(shape: tuple[int, ...], dtype: str) -> GGMLQuantizationType:
    """Return the GGML type of one tensor.

    Norms are vectors and stay float32, as llama.cpp demands. Q8_0 stores blocks of 32 values along a row; a matrix
    whose rows cannot be cut so is stored as float16 instead.

    Args:
        shape: of the tensor.
        dtype: `float32`, `float16` or `q8_0`.
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
