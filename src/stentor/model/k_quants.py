"""GGML's K-quants: super-blocks of 256 values, which llama.cpp's own tool makes and which are read here.

A super-block is cut into parts of 16 or 32 values with a small whole number each as their scale (and minimum), in steps
that the super-block's one or two float16 numbers give.

Reference: ggml, src/ggml-common.h (layouts) and src/ggml-quants.c (`dequantize_row_q4_K` and its like).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUPER_BLOCK_SIZE = 256
"""Values in a super-block."""

SUPER_BLOCK_DTYPES = {
    "Q6_K": np.dtype(
        [("nibbles", "u1", (2, 64)), ("high_bits", "u1", (2, 32)), ("parts", "i1", (16,)), ("scale", "<f2")]
    ),
    "Q5_K": np.dtype(
        [
            ("scale", "<f2"),
            ("minimum", "<f2"),
            ("parts", "u1", (12,)),
            ("fifth_bits", "u1", (32,)),
            ("nibbles", "u1", (4, 32)),
        ]
    ),
    "Q4_K": np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("parts", "u1", (12,)), ("nibbles", "u1", (4, 32))]),
}
"""The record of a super-block of each kind; how bits make values, see the functions below."""


def dequantized_super_blocks(kind: str, blocks: NDArray[np.void]) -> NDArray[np.float32]:
    """Return the values [..., 256] that super-blocks [...] of a kind stand for, to the bit as ggml does."""
    scale = blocks["scale"].astype(np.float32)[..., None]
    if kind == "Q6_K":
        steps = scale * blocks["parts"].astype(np.float32)
        values = steps[..., None] * _six_bits(blocks).astype(np.float32)
    else:
        scales, minima = _six_bit_pairs(blocks["parts"])
        whole = _five_bits(blocks) if kind == "Q5_K" else _four_bits(blocks)
        lowest = blocks["minimum"].astype(np.float32)[..., None] * minima.astype(np.float32)
        values = (scale * scales.astype(np.float32))[..., None] * whole.astype(np.float32) - lowest[..., None]
    return values.reshape(*blocks.shape, SUPER_BLOCK_SIZE)


def _six_bit_pairs(parts: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return scales and minima [..., 8] from 12 bytes: the first four whole, of the others two bits lie above those."""
    first, second, third = parts[..., :4], parts[..., 4:8], parts[..., 8:]
    scales = np.concatenate((first & 63, third & 15 | first >> 6 << 4), axis=-1, dtype=np.uint8)
    return scales, np.concatenate((second & 63, third >> 4 | second >> 6 << 4), axis=-1, dtype=np.uint8)


def _four_bits(blocks: NDArray[np.void]) -> NDArray[np.uint8]:
    """Return whole numbers [..., 8, 32] from 0: of 64 values, the low halves of 32 bytes come first."""
    nibbles = blocks["nibbles"]
    return np.stack((nibbles & 15, nibbles >> 4), axis=-2, dtype=np.uint8).reshape(*blocks.shape, 8, 32)


def _five_bits(blocks: NDArray[np.void]) -> NDArray[np.uint8]:
    """Return whole numbers [..., 8, 32] from 0: bit p of byte i is the fifth of value i of part p."""
    fifth = blocks["fifth_bits"][..., None, :] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)
    return _four_bits(blocks) | fifth << np.uint8(4)


def _six_bits(blocks: NDArray[np.void]) -> NDArray[np.int8]:
    """Return whole numbers [..., 16, 16] from -32: of 128 values, four quarters share 32 bytes of high bits."""
    nibbles, high = blocks["nibbles"], blocks["high_bits"]
    low = np.concatenate((nibbles & 15, nibbles >> 4), axis=-1).reshape(*blocks.shape, 2, 4, 32)
    upper = high[..., None, :] >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & np.uint8(3)
    return ((low | upper << np.uint8(4)).astype(np.int8) - np.int8(32)).reshape(*blocks.shape, 16, 16)
