"""Attention of four tokens that follow one another, over a cache of floats: each key and value is read once for all.

Each token's sums are those of `attention.attend_floats`, in its order, so they have the same bits. What stands behind a
token has a weight of zero.
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Int, Vector, called
from stentor.runtime.kernels.attention import CHUNK, LOWEST
from stentor.runtime.kernels.vector import (
    exponential,
    first_lanes,
    floats,
    largest,
    load_float,
    load_floats,
    maximum,
    multiply_add,
    store_floats,
    total,
)

TOKENS = 4
_ONE = np.float32(1)


@called
def attend_four(
    queries: Int, stride: Int, head_dim: Int, length: Int, capacity: Int, keys: Int, values: Int, scores: Int
) -> None:
    """Replace four queries by what they attend to.

    Args:
        queries: float32 [H] of the first token, scaled.
        stride: bytes from one token's to the next.
        head_dim: H.
        length: positions that the first token attends to; each one behind it attends to one more.
        capacity: positions there are.
        keys: of this head.
        values: of this head.
        scores: room for four float32 for each position.
    """
    num_chunks, chunk_bytes = (length + TOKENS - 1 + CHUNK - 1) // CHUNK, 4 * CHUNK * head_dim
    row = 4 * capacity
    for chunk in range(num_chunks):
        _score_chunk(queries, stride, head_dim, keys + chunk * chunk_bytes, scores + 64 * chunk, row)
    a = floats(_ONE / _weigh(scores, length, num_chunks))
    b = floats(_ONE / _weigh(scores + row, length + 1, num_chunks))
    c = floats(_ONE / _weigh(scores + 2 * row, length + 2, num_chunks))
    d = floats(_ONE / _weigh(scores + 3 * row, length + 3, num_chunks))
    for place in range(0, 4 * head_dim, 64):
        _sum_values(values + place, head_dim, num_chunks * CHUNK, scores, row, queries + place, stride, a, b, c, d)


@called
def _score_chunk(queries: Int, stride: Int, head_dim: Int, keys: Int, scores: Int, row: Int) -> None:
    """Write the scores of a chunk's positions for each token."""
    a = floats(np.float32(0))
    b, c, d = a, a, a
    second, third, fourth = queries + stride, queries + 2 * stride, queries + 3 * stride
    for place in range(0, 4 * head_dim, 4):
        key = load_floats(keys)
        a = multiply_add(key, floats(load_float(queries + place)), a)
        b = multiply_add(key, floats(load_float(second + place)), b)
        c = multiply_add(key, floats(load_float(third + place)), c)
        d = multiply_add(key, floats(load_float(fourth + place)), d)
        keys += 64
    store_floats(scores, a)
    store_floats(scores + row, b)
    store_floats(scores + 2 * row, c)
    store_floats(scores + 3 * row, d)


@called
def _weigh(scores: Int, length: Int, num_chunks: Int) -> float:
    """Replace a token's scores by weights, those of chunks that it does not see by zero; returns the sum."""
    seen = (length + CHUNK - 1) // CHUNK
    last = scores + 64 * (seen - 1)
    store_floats(last, first_lanes(length - CHUNK * (seen - 1), load_floats(last), floats(LOWEST)))
    top = floats(LOWEST)
    for chunk in range(seen):
        top = maximum(load_floats(scores + 64 * chunk), top)
    highest, summed = floats(largest(top)), floats(np.float32(0))
    for chunk in range(seen):
        weight = exponential(load_floats(scores + 64 * chunk) - highest)
        store_floats(scores + 64 * chunk, weight)
        summed = summed + weight
    for chunk in range(seen, num_chunks):
        store_floats(scores + 64 * chunk, floats(np.float32(0)))
    return total(summed)


@called
def _sum_values(
    values: Int, head_dim: Int, num_positions: Int, weights: Int, row: Int, out: Int, stride: Int, a_scale: Vector,
    b_scale: Vector, c_scale: Vector, d_scale: Vector,
) -> None:  # fmt: skip
    """Write 16 dims of the weighted sum of values for each token; even positions and odd ones are added up apart."""
    a = floats(np.float32(0))
    b, c, d, odd_a, odd_b, odd_c, odd_d = a, a, a, a, a, a, a
    second, third, fourth = weights + row, weights + 2 * row, weights + 3 * row
    for place in range(0, 4 * num_positions, 8):
        value, odd = load_floats(values), load_floats(values + 4 * head_dim)
        a = multiply_add(value, floats(load_float(weights + place)), a)
        b = multiply_add(value, floats(load_float(second + place)), b)
        c = multiply_add(value, floats(load_float(third + place)), c)
        d = multiply_add(value, floats(load_float(fourth + place)), d)
        odd_a = multiply_add(odd, floats(load_float(weights + place + 4)), odd_a)
        odd_b = multiply_add(odd, floats(load_float(second + place + 4)), odd_b)
        odd_c = multiply_add(odd, floats(load_float(third + place + 4)), odd_c)
        odd_d = multiply_add(odd, floats(load_float(fourth + place + 4)), odd_d)
        values += 8 * head_dim
    store_floats(out, (a + odd_a) * a_scale)
    store_floats(out + stride, (b + odd_b) * b_scale)
    store_floats(out + 2 * stride, (c + odd_c) * c_scale)
    store_floats(out + 3 * stride, (d + odd_d) * d_scale)
