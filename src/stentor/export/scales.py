"""Scales of blocks chosen for the least squared error, and blocks made of scales and whole numbers.

The plain way lets the largest weight of a block decide its scale, and all others pay for it. Here scales around that
one are tried; each decides the whole numbers, and these the scale that leaves the least error. The form is the same: a
file opens wherever one rounded in the plain way does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stentor.model.quantized import BLOCK_DTYPES, BLOCK_SIZE, Quantized

Floats = NDArray[np.float32]
LOWEST = {"q4_0": -8, "q5_0": -16}
"""The lowest whole number of each dtype whose scales can be searched; the highest is one less without its sign."""
_TRIED = np.linspace(-1.2, 2.2, 12, dtype=np.float32)
"""By how much the largest weight of a block may miss the lowest number before it is rounded, in steps."""
_SMALLEST_HALF = np.float32(2.0**-24)
_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


def searched(values_RC: Floats, dtype: str) -> Quantized:
    """Return a matrix in blocks whose scales leave little squared error.

    What such blocks hold comes back as the same blocks: of two scales that differ in their sign alone, where both can
    say everything, the positive one is taken.

    Args:
        values_RC: the weights; C is a multiple of 32.
        dtype: a key of `LOWEST`.
    """
    blocks = np.ascontiguousarray(values_RC, dtype=np.float32).reshape(len(values_RC), -1, BLOCK_SIZE)
    scales = best_scales(blocks, LOWEST[dtype])
    whole = whole_numbers(blocks, scales, LOWEST[dtype])
    turns = (scales < 0) & (whole > LOWEST[dtype]).all(axis=-1)
    return in_blocks(np.where(turns[..., None], -whole, whole), np.where(turns, -scales, scales), dtype)


def best_scales(blocks: Floats, lowest: int, weights: Floats | None = None) -> NDArray[np.float16]:
    """Return a scale for each block [...], which may be negative; zero where all values are next to nothing.

    Args:
        blocks: values [..., 32].
        lowest: whole number that a value may become.
        weights: what a squared error counts at each place, [..., 32] or fewer dimensions; the same where none is given.
    """
    importance = np.float32(1) if weights is None else weights
    place = np.abs(blocks).argmax(axis=-1, keepdims=True)
    top = np.take_along_axis(blocks, place, axis=-1)[..., 0]
    is_nothing = np.abs(top) < _SMALLEST_HALF
    chosen, best = np.zeros_like(top), np.zeros_like(top)
    for aim in lowest - _TRIED:
        whole = _rounded(blocks * np.where(is_nothing, 0, aim / np.where(is_nothing, 1, top))[..., None], lowest)
        weighted = whole * importance
        products, squares = (weighted * blocks).sum(axis=-1), (weighted * whole).sum(axis=-1)
        scale = np.divide(products, squares, out=np.zeros_like(top), where=squares > 0)
        gain = products * scale
        chosen, best = np.where(gain > best, scale, chosen), np.maximum(gain, best)
    return np.clip(chosen, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)


def whole_numbers(blocks: Floats, scales: NDArray[np.float16], lowest: int) -> NDArray[np.int8]:
    """Return the nearest whole numbers [..., 32] to blocks over their scales [...]."""
    steps = scales.astype(np.float32)[..., None]
    return _rounded(np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps != 0), lowest).astype(np.int8)


def in_blocks(whole: NDArray[np.int8], scales: NDArray[np.float16], dtype: str) -> Quantized:
    """Return blocks of whole numbers [R, C / 32, 32] and scales [R, C / 32].

    Args:
        whole: within what the dtype holds.
        scales: of each block.
        dtype: `q8_0` or a key of `LOWEST`.
    """
    blocks = np.zeros(scales.shape, BLOCK_DTYPES[dtype.upper()])
    blocks["scale"] = scales
    if dtype == "q8_0":
        blocks["integers"] = whole
        return Quantized("Q8_0", blocks)
    raised = (whole - np.int8(LOWEST[dtype])).view(np.uint8)
    half = BLOCK_SIZE // 2
    blocks["nibbles"] = raised[..., :half] & 15 | (raised[..., half:] & 15) << np.uint8(4)
    if dtype == "q5_0":
        blocks["fifth_bits"] = np.packbits(raised >> 4, axis=-1, bitorder="little")
    return Quantized(dtype.upper(), blocks)


def _rounded(values: Floats, lowest: int) -> Floats:
    return np.clip(np.rint(values), lowest, -lowest - 1)
