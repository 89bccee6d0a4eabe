"""K-quants by ggml's own code, which the package xllamacpp brings along: nobody else writes them.

The package gguf reads them only, and its wheel has no tool `llama-quantize`. ggml's public function, which that tool
calls for each matrix, is in the library of xllamacpp.
"""

from __future__ import annotations

import ctypes
import functools
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from stentor.errors import MissingDependencyError

_FUNCTION = "ggml_quantize_chunk"


def quantize_rows(values: NDArray[np.float32], kind: GGMLQuantizationType) -> NDArray[np.uint8]:
    """Return the rows of a matrix as ggml stores them, as bytes.

    Args:
        values: [R, C]; C is a multiple of the kind's block.
        kind: of the blocks.

    Raises:
        MissingDependencyError: xllamacpp is not installed, or its library does not show the function.
    """
    given = np.ascontiguousarray(values, dtype=np.float32)
    rows, columns = given.shape
    block_size, num_bytes = GGML_QUANT_SIZES[kind]
    made = np.zeros((rows, columns // block_size * num_bytes), dtype=np.uint8)
    _quantize_chunk()(int(kind), given.ctypes.data, made.ctypes.data, 0, rows, columns, None)
    return made


@functools.cache
def _quantize_chunk() -> Any:
    """Return `size_t ggml_quantize_chunk(type, src, dst, start, nrows, n_per_row, imatrix)`."""
    try:
        function = getattr(ctypes.CDLL(_library()), _FUNCTION)
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(
            f"K-quants need ggml's {_FUNCTION}, which the package 'xllamacpp' does not offer here ({error})",
            fix="export --dtype float16 and run llama.cpp's llama-quantize on that file, or choose q4_0 or q5_0",
        ) from None
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return function


def _library() -> str:
    package = find_spec("xllamacpp")
    places = package.submodule_search_locations if package else None
    library = PathFinder.find_spec("xllamacpp", places) if places else None
    if library is None or library.origin is None:
        raise MissingDependencyError(
            "K-quants are made by llama.cpp's own code, from the package 'xllamacpp', which is not installed",
            fix="pip install 'stentor[export]'",
        )
    return library.origin
