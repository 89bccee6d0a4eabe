"""Matrices times the activations of some tokens, for weights of float32, of bytes and of four bits.

Rows (outputs) lie in panels of 64, within which the weights of a few columns of all 64 rows lie side by side: a panel
is read once from front to back, and stays in the nearest cache while token after token is multiplied with it. A
token's result never depends on the others: what is checked many at a time has the bits of what is made one at a time.

Bytes: a weight is an integer from -127 to 127, stored 128 higher, times the scale of its row; an activation is one
times the scale of its token. Sums of their products are exact, so they do not depend on the CPU either.

Four bits: a weight is an integer from -8 to 7, stored 8 higher, times the scale of its block of 32 columns of a row.
Sums within a block are exact, and blocks are added up as float32 from the first to the last, on every CPU alike. Panels
have 16 rows, one vector: to take bytes apart needs room that CPUs with 16 vectors do not have beside more sums.
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Int, called, inlined
from stentor.runtime.kernels.dots import dot, dot_of_nibbles, high_nibbles, low_nibbles
from stentor.runtime.kernels.vector import (
    absolute,
    floats,
    ints,
    largest,
    load_bytes,
    load_float,
    load_floats,
    load_halves,
    load_int,
    maximum,
    multiply_add,
    rounded,
    spread_bytes,
    store_float,
    store_floats,
    store_int,
    store_low_bytes,
    to_floats,
    total,
    total_of_bytes,
    total_of_ints,
)

FLOATS, BYTES, NIBBLES = range(3)
"""How the weights of a matrix are stored."""
PANEL_ROWS, NIBBLE_PANEL_ROWS = 64, 16
BLOCK = 32
"""Columns that share a scale where weights have four bits."""
NIBBLE_PANEL_BYTES = NIBBLE_PANEL_ROWS // 2 + 2 * NIBBLE_PANEL_ROWS // BLOCK
"""Bytes of a column of a panel, scales among them."""
HEAD = 64
"""Bytes before a token's activations: what belongs to all of them."""


@inlined
def quantize(values: Int, count: Int, data: Int) -> None:
    """Write floats as activations of bytes: a float32 scale, the int32 sum of the bytes, and from `HEAD` on the bytes.

    Args:
        values: address of float32.
        count: of them, a multiple of 16.
        data: address to write to.
    """
    size = floats(np.float32(0))
    for index in range(0, count, 16):
        size = maximum(absolute(load_floats(values + 4 * index)), size)
    top = max(largest(size), np.float32(1e-30))
    inverse, summed = floats(np.float32(127) / top), ints(np.int32(0))
    for index in range(0, count, 16):
        whole = rounded(load_floats(values + 4 * index) * inverse)
        store_low_bytes(data + HEAD + index, whole)
        summed = summed + whole
    store_float(data, np.float32(top * np.float32(1 / 127)))
    store_int(data + 4, total_of_ints(summed))


@inlined
def sum_blocks(data: Int, count: Int) -> None:
    """Write, behind activations of bytes, what they add to sums whose weights are stored 8 too high: an int32 a block.

    Args:
        data: what `quantize` wrote.
        count: of the activations, a multiple of 32.
    """
    for index in range(0, count, BLOCK):
        store_int(data + HEAD + count + index // 8, np.int32(-8) * total_of_bytes(data + HEAD + index))


@inlined
def sum_of_squares(values: Int, count: Int) -> float:
    """Return the sum of the squares of floats at an address, a multiple of 16 of them."""
    summed = floats(np.float32(0))
    for index in range(0, count, 16):
        x = load_floats(values + 4 * index)
        summed = multiply_add(x, x, summed)
    return total(summed)


@called
def multiply_bytes(
    panels: Int, row_scales: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int, out: Int,
    out_stride: Int,
) -> None:  # fmt: skip
    """Multiply a matrix of bytes with the activations of tokens.

    Args:
        panels: address of the weights, [rows / 64][columns / 4][64][4] bytes.
        row_scales: address of a float32 for each row.
        rows: a multiple of 64.
        columns: a multiple of 16.
        data: address of the first token's activations: a float32 scale, the int32 sum of the bytes, the bytes from
            `HEAD` on.
        stride: bytes from a token's to the next.
        num_tokens: how many.
        out: address of the results, float32.
        out_stride: bytes from a token's results to the next.
    """
    for _ in range(0, rows, PANEL_ROWS):
        for token in range(num_tokens):
            given = data + token * stride
            start, weights, x = ints(np.int32(-128) * load_int(given + 4)), panels, given + HEAD
            a, b, c, d = start, start, start, start  # one sum of a row waits while the other is added to
            e = ints(np.int32(0))
            f, g, h = e, e, e
            for _ in range(0, columns, 8):
                four = spread_bytes(x)
                a = dot(a, load_bytes(weights), four)
                b = dot(b, load_bytes(weights + 64), four)
                c = dot(c, load_bytes(weights + 128), four)
                d = dot(d, load_bytes(weights + 192), four)
                four = spread_bytes(x + 4)
                e = dot(e, load_bytes(weights + 256), four)
                f = dot(f, load_bytes(weights + 320), four)
                g = dot(g, load_bytes(weights + 384), four)
                h = dot(h, load_bytes(weights + 448), four)
                weights, x = weights + 512, x + 8
            a, b, c, d = a + e, b + f, c + g, d + h
            scale, to = floats(load_float(given)), out + token * out_stride
            store_floats(to, to_floats(a) * (load_floats(row_scales) * scale))
            store_floats(to + 64, to_floats(b) * (load_floats(row_scales + 64) * scale))
            store_floats(to + 128, to_floats(c) * (load_floats(row_scales + 128) * scale))
            store_floats(to + 192, to_floats(d) * (load_floats(row_scales + 192) * scale))
        panels, row_scales, out = panels + PANEL_ROWS * columns, row_scales + 4 * PANEL_ROWS, out + 4 * PANEL_ROWS


@called
def multiply_floats(
    panels: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int, out: Int, out_stride: Int
) -> None:  # fmt: skip
    """Multiply a matrix of float32 with the activations of tokens.

    Args:
        panels: address of the weights, [rows / 64][columns][64] float32.
        rows: a multiple of 64.
        columns: any number.
        data: address of the first token's activations, float32 from `HEAD` on.
        stride: bytes from a token's to the next.
        num_tokens: how many.
        out: address of the results, float32.
        out_stride: bytes from a token's results to the next.
    """
    for _ in range(0, rows, PANEL_ROWS):
        for token in range(num_tokens):
            a = floats(np.float32(0))
            b, c, d = a, a, a
            weights, given = panels, data + token * stride + HEAD
            for column in range(columns):
                x = floats(load_float(given + 4 * column))
                a = multiply_add(load_floats(weights), x, a)
                b = multiply_add(load_floats(weights + 64), x, b)
                c = multiply_add(load_floats(weights + 128), x, c)
                d = multiply_add(load_floats(weights + 192), x, d)
                weights += 256
            to = out + token * out_stride
            store_floats(to, a)
            store_floats(to + 64, b)
            store_floats(to + 128, c)
            store_floats(to + 192, d)
        panels, out = panels + 4 * PANEL_ROWS * columns, out + 4 * PANEL_ROWS


@called
def multiply_nibbles(
    panels: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int, out: Int, out_stride: Int
) -> None:  # fmt: skip
    """Multiply a matrix of four bits a weight with the activations of tokens.

    Args:
        panels: address of panels of 16 rows: of each first the weights, [columns / 32][4][16][4] bytes of which the
            lower half is that of one of a block's first 16 columns, and the upper half that of the column 16 further;
            then the scales, [columns / 32][16] float16.
        rows: a multiple of 16.
        columns: a multiple of 32.
        data: address of the first token's activations: as for `multiply_bytes`, and behind the bytes what `sum_blocks`
            wrote.
        stride: bytes from a token's to the next.
        num_tokens: how many.
        out: address of the results, float32.
        out_stride: bytes from a token's results to the next.
    """
    for _ in range(0, rows, NIBBLE_PANEL_ROWS):
        for token in range(0, num_tokens - 1, 2):
            _two_by_nibbles(panels, columns, data + token * stride, stride, out + token * out_stride, out_stride)
        if num_tokens % 2:
            _one_by_nibbles(panels, columns, data + (num_tokens - 1) * stride, out + (num_tokens - 1) * out_stride)
        panels, out = panels + NIBBLE_PANEL_BYTES * columns, out + 4 * NIBBLE_PANEL_ROWS


@inlined
def _one_by_nibbles(weights: Int, columns: Int, given: Int, out: Int) -> None:
    """Multiply a panel with one token."""
    x, start, scales = given + HEAD, given + HEAD + columns, weights + columns * NIBBLE_PANEL_ROWS // 2
    summed = floats(np.float32(0))
    for _ in range(0, columns, BLOCK):
        sums = ints(load_int(start))
        for column in range(0, BLOCK // 2, 4):
            both = load_bytes(weights + 16 * column)
            sums = dot_of_nibbles(sums, low_nibbles(both), spread_bytes(x + column))
            sums = dot_of_nibbles(sums, high_nibbles(both), spread_bytes(x + BLOCK // 2 + column))
        summed = multiply_add(to_floats(sums), load_halves(scales), summed)
        weights, scales, x, start = weights + 256, scales + 32, x + BLOCK, start + 4
    store_floats(out, summed * floats(load_float(given)))


@inlined
def _two_by_nibbles(weights: Int, columns: Int, given: Int, stride: Int, out: Int, out_stride: Int) -> None:
    """Multiply a panel with two tokens, for both of which bytes are taken apart once."""
    x, start, scales = given + HEAD, given + HEAD + columns, weights + columns * NIBBLE_PANEL_ROWS // 2
    a = floats(np.float32(0))
    b = a
    for _ in range(0, columns, BLOCK):
        one, two = ints(load_int(start)), ints(load_int(start + stride))
        for column in range(0, BLOCK // 2, 4):
            both = load_bytes(weights + 16 * column)
            low, high = low_nibbles(both), high_nibbles(both)
            one = dot_of_nibbles(one, low, spread_bytes(x + column))
            two = dot_of_nibbles(two, low, spread_bytes(x + column + stride))
            one = dot_of_nibbles(one, high, spread_bytes(x + BLOCK // 2 + column))
            two = dot_of_nibbles(two, high, spread_bytes(x + BLOCK // 2 + column + stride))
        scale = load_halves(scales)
        a, b = multiply_add(to_floats(one), scale, a), multiply_add(to_floats(two), scale, b)
        weights, scales, x, start = weights + 256, scales + 32, x + BLOCK, start + 4
    store_floats(out, a * floats(load_float(given)))
    store_floats(out + out_stride, b * floats(load_float(given + stride)))
