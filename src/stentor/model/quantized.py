"""Weights in the blocks that GGML stores them in, and the float32 values that they stand for.

Each type cuts the rows of a matrix into blocks of 32 values that share a scale, or into the super-blocks of `k_quants`.
The blocks stay as they are in the file, as records of NumPy, so that a kernel can take integers and scales without a
round trip.

Reference: ggml, src/ggml-common.h (layouts) and src/ggml-quants.c (`dequantize_row_*`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stentor.model.k_quants import SUPER_BLOCK_DTYPES, SUPER_BLOCK_SIZE, dequantized_super_blocks

BLOCK_SIZE = 32
"""Values in a block."""

BLOCK_DTYPES = {
    "Q8_0": np.dtype([("scale", "<f2"), ("integers", "i1", (BLOCK_SIZE,))]),
    "Q5_1": np.dtype(
        [
            ("scale", "<f2"),
            ("minimum", "<f2"),
            ("fifth_bits", "u1", (BLOCK_SIZE // 8,)),
            ("nibbles", "u1", (BLOCK_SIZE // 2,)),
        ]
    ),
    "Q5_0": np.dtype(
        [("scale", "<f2"), ("fifth_bits", "u1", (BLOCK_SIZE // 8,)), ("nibbles", "u1", (BLOCK_SIZE // 2,))]
    ),
    "Q4_1": np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("nibbles", "u1", (BLOCK_SIZE // 2,))]),
    "Q4_0": np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK_SIZE // 2,))]),
}
"""The record of a block of each kind. The low half of byte i of `nibbles` belongs to value i, the high half to value
i + 16; bit i of `fifth_bits` is the fifth bit of value i."""

RECORDS = BLOCK_DTYPES | SUPER_BLOCK_DTYPES
"""The same, and those of super-blocks."""

_ZERO_POINTS = {"Q5_1": 0, "Q5_0": 16, "Q4_1": 0, "Q4_0": 8}


def values_per_block(kind: str) -> int:
    """Return how many values a block or super-block of a kind holds; the rows of a matrix are a multiple of it."""
    return BLOCK_SIZE if kind in BLOCK_DTYPES else SUPER_BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Quantized:
    """A matrix of R rows and C columns in blocks.

    Attributes:
        kind: of the blocks, as GGML names it.
        blocks: records [R, C / 32], or C / 256, of type `RECORDS[kind]`; they may be a read-only view of a file.
    """

    kind: str
    blocks: NDArray[np.void]

    @property
    def shape(self) -> tuple[int, ...]:
        """R and C, as the matrix has them once it is dequantized."""
        return (*self.blocks.shape[:-1], self.blocks.shape[-1] * values_per_block(self.kind))

    def integers(self) -> NDArray[np.int8]:
        """Return the whole numbers [R, C / 32, 32] of blocks, which scales (and minima, if any) turn into weights."""
        if self.kind == "Q8_0":
            return self.blocks["integers"]
        names, nibbles = self.blocks.dtype.names or (), self.blocks["nibbles"]
        values = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=-1)
        if "fifth_bits" in names:
            values |= np.unpackbits(self.blocks["fifth_bits"], axis=-1, bitorder="little") << 4
        return values.astype(np.int8) - np.int8(_ZERO_POINTS[self.kind])

    def dequantized(self) -> NDArray[np.float32]:
        """Return the weights [R, C]."""
        if self.kind in SUPER_BLOCK_DTYPES:
            return dequantized_super_blocks(self.kind, self.blocks).reshape(self.shape)
        values = self.blocks["scale"].astype(np.float32)[..., None] * self.integers().astype(np.float32)
        if "minimum" in (self.blocks.dtype.names or ()):
            values += self.blocks["minimum"].astype(np.float32)[..., None]
        return values.reshape(self.shape)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        factors = {"scale", "minimum"} & set(self.blocks.dtype.names or ())
        return all(bool(np.isfinite(self.blocks[name]).all()) for name in factors)

    def rows(self, order: NDArray[np.intp]) -> Quantized:
        """Return the matrix of these rows, in this order."""
        return Quantized(self.kind, self.blocks[order])


Array = NDArray[np.float32] | Quantized
"""Weights of a model: plain, or in blocks."""


def as_float32(array: Array) -> NDArray[np.float32]:
    """Return weights as plain values, whichever way they are held."""
    return array.dequantized() if isinstance(array, Quantized) else array
