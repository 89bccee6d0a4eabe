"""Matrices times the activations of many tokens: four at a time, so that each weight that is read serves all four.

What one token gets is summed in the order of `products`, so it has the same bits. A tile is a panel's 64 rows for four
tokens: sixteen vectors of sums, which CPUs with 32 vectors hold beside the weights.

Two or three tokens that are left over cost more alone than in a tile, so the tile is filled up with what lies behind
them: callers leave room for `padded` rows of activations and results.
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Int, Vector, called, inlined
from stentor.runtime.kernels.dots import dot
from stentor.runtime.kernels.products import HEAD, PANEL_ROWS, multiply_bytes, multiply_floats
from stentor.runtime.kernels.vector import (
    floats,
    ints,
    load_bytes,
    load_float,
    load_floats,
    load_int,
    multiply_add,
    spread_bytes,
    store_floats,
    to_floats,
)

_TOKENS = 4


@inlined
def padded(num_tokens: Int) -> int:
    """Return how many tokens' rows are read and written for so many."""
    return (num_tokens + _TOKENS - 1) // _TOKENS * _TOKENS


@inlined
def _tiled(num_tokens: Int) -> int:
    """Return how many are taken in tiles; one that is left over is taken alone."""
    return num_tokens - 1 if num_tokens % _TOKENS == 1 else padded(num_tokens)


@called
def multiply_many_floats(
    panels: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int, out: Int, out_stride: Int
) -> None:  # fmt: skip
    """Multiply a matrix of float32 with the activations of tokens; arguments as in `products.multiply_floats`."""
    tiled = _tiled(num_tokens)
    if tiled < num_tokens:
        multiply_floats(
            panels, rows, columns, data + tiled * stride, stride, num_tokens - tiled, out + tiled * out_stride,
            out_stride,
        )  # fmt: skip
    if tiled > 0:
        for _ in range(0, rows, PANEL_ROWS):
            for token in range(0, tiled, _TOKENS):
                _tile_floats(
                    panels, columns, data + token * stride + HEAD, stride, out + token * out_stride, out_stride
                )
            panels, out = panels + 4 * PANEL_ROWS * columns, out + 4 * PANEL_ROWS


@called
def multiply_many_bytes(
    panels: Int, row_scales: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int, out: Int,
    out_stride: Int,
) -> None:  # fmt: skip
    """Multiply a matrix of bytes with the activations of tokens; arguments as in `products.multiply_bytes`."""
    tiled = _tiled(num_tokens)
    if tiled < num_tokens:
        multiply_bytes(
            panels, row_scales, rows, columns, data + tiled * stride, stride, num_tokens - tiled,
            out + tiled * out_stride, out_stride,
        )  # fmt: skip
    if tiled > 0:
        for _ in range(0, rows, PANEL_ROWS):
            for token in range(0, tiled, _TOKENS):
                _tile_bytes(
                    panels, row_scales, columns, data + token * stride, stride, out + token * out_stride, out_stride
                )
            panels, row_scales, out = panels + PANEL_ROWS * columns, row_scales + 4 * PANEL_ROWS, out + 4 * PANEL_ROWS


@called
def _tile_floats(weights: Int, columns: Int, given: Int, stride: Int, to: Int, out_stride: Int) -> None:
    a0 = floats(np.float32(0))
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    c0, c1, c2, c3, d0, d1, d2, d3 = a0, a0, a0, a0, a0, a0, a0, a0
    second, third, fourth = given + stride, given + 2 * stride, given + 3 * stride
    for _ in range(columns):
        w0, w1 = load_floats(weights), load_floats(weights + 64)
        w2, w3 = load_floats(weights + 128), load_floats(weights + 192)
        a, b = floats(load_float(given)), floats(load_float(second))
        a0, a1, a2, a3 = (
            multiply_add(w0, a, a0),
            multiply_add(w1, a, a1),
            multiply_add(w2, a, a2),
            multiply_add(w3, a, a3),
        )
        b0, b1, b2, b3 = (
            multiply_add(w0, b, b0),
            multiply_add(w1, b, b1),
            multiply_add(w2, b, b2),
            multiply_add(w3, b, b3),
        )
        c, d = floats(load_float(third)), floats(load_float(fourth))
        c0, c1, c2, c3 = (
            multiply_add(w0, c, c0),
            multiply_add(w1, c, c1),
            multiply_add(w2, c, c2),
            multiply_add(w3, c, c3),
        )
        d0, d1, d2, d3 = (
            multiply_add(w0, d, d0),
            multiply_add(w1, d, d1),
            multiply_add(w2, d, d2),
            multiply_add(w3, d, d3),
        )
        given, second, third, fourth, weights = given + 4, second + 4, third + 4, fourth + 4, weights + 256
    _store(to, a0, a1, a2, a3)
    _store(to + out_stride, b0, b1, b2, b3)
    _store(to + 2 * out_stride, c0, c1, c2, c3)
    _store(to + 3 * out_stride, d0, d1, d2, d3)


@called
def _tile_bytes(
    weights: Int, row_scales: Int, columns: Int, given: Int, stride: Int, to: Int, out_stride: Int
) -> None:  # fmt: skip
    second, third, fourth = given + stride, given + 2 * stride, given + 3 * stride
    a0, b0 = ints(np.int32(-128) * load_int(given + 4)), ints(np.int32(-128) * load_int(second + 4))
    c0, d0 = ints(np.int32(-128) * load_int(third + 4)), ints(np.int32(-128) * load_int(fourth + 4))
    a1, a2, a3, b1, b2, b3 = a0, a0, a0, b0, b0, b0
    c1, c2, c3, d1, d2, d3 = c0, c0, c0, d0, d0, d0
    for place in range(HEAD, HEAD + columns, 4):
        w0, w1, w2, w3 = (
            load_bytes(weights),
            load_bytes(weights + 64),
            load_bytes(weights + 128),
            load_bytes(weights + 192),
        )
        a, b = spread_bytes(given + place), spread_bytes(second + place)
        a0, a1, a2, a3 = dot(a0, w0, a), dot(a1, w1, a), dot(a2, w2, a), dot(a3, w3, a)
        b0, b1, b2, b3 = dot(b0, w0, b), dot(b1, w1, b), dot(b2, w2, b), dot(b3, w3, b)
        c, d = spread_bytes(third + place), spread_bytes(fourth + place)
        c0, c1, c2, c3 = dot(c0, w0, c), dot(c1, w1, c), dot(c2, w2, c), dot(c3, w3, c)
        d0, d1, d2, d3 = dot(d0, w0, d), dot(d1, w1, d), dot(d2, w2, d), dot(d3, w3, d)
        weights += 256
    _store_scaled(to, row_scales, given, a0, a1, a2, a3)
    _store_scaled(to + out_stride, row_scales, second, b0, b1, b2, b3)
    _store_scaled(to + 2 * out_stride, row_scales, third, c0, c1, c2, c3)
    _store_scaled(to + 3 * out_stride, row_scales, fourth, d0, d1, d2, d3)


@inlined
def _store(to: Int, a: Vector, b: Vector, c: Vector, d: Vector) -> None:
    store_floats(to, a)
    store_floats(to + 64, b)
    store_floats(to + 128, c)
    store_floats(to + 192, d)


@inlined
def _store_scaled(to: Int, row_scales: Int, given: Int, a: Vector, b: Vector, c: Vector, d: Vector) -> None:
    scale = floats(load_float(given))
    store_floats(to, to_floats(a) * (load_floats(row_scales) * scale))
    store_floats(to + 64, to_floats(b) * (load_floats(row_scales + 64) * scale))
    store_floats(to + 128, to_floats(c) * (load_floats(row_scales + 128) * scale))
    store_floats(to + 192, to_floats(d) * (load_floats(row_scales + 192) * scale))
