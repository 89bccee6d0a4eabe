"""Attention of one query head over the keys and values that a cache holds, as bytes or as float32.

Keys lie in chunks of 16 positions, so that one vector is a score for each: bytes as [chunk][H / 4][16][4], floats as
[chunk][H][16]. Values are summed over positions: bytes lie as [H / 16][positions / 4][16][4], floats as [position][H].
All arguments that end in s, but for lengths, are addresses. H, the head dim, is a multiple of 16, and so are the
positions that a cache holds.
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Int, Vector, called, inlined
from stentor.runtime.kernels.products import HEAD, quantize
from stentor.runtime.kernels.vector import (
    dot,
    exponential,
    first_lanes,
    floats,
    high_bytes,
    ints,
    largest,
    load_bytes,
    load_float,
    load_floats,
    load_int,
    maximum,
    move_byte,
    multiply_add,
    rounded,
    spread_bytes,
    store_float,
    store_floats,
    store_int,
    store_low_bytes,
    to_floats,
    total,
)

CHUNK = 16
LOWEST = np.float32(-1e30)
_ONE = np.float32(1)
_SIGNS = np.int32(-2_139_062_144)
"""The highest bit of four bytes: what turns bytes from -128 to 127 into those from 0 to 255, 128 higher."""
_WEIGHT_STEPS = np.float32(65_535)
"""Weights of positions are whole numbers of two bytes when they meet values of one."""


@called
def store_key_bytes(vectors: Int, head_dim: Int, position: Int, keys: Int, scales: Int, data: Int) -> None:
    """Write a key into its place.

    Args:
        vectors: float32 [H].
        head_dim: H.
        position: where.
        keys: of this head.
        scales: of its positions, float32.
        data: room for a head's activations.
    """
    quantize(vectors, head_dim, data, _ONE)
    store_float(scales + 4 * position, load_float(data))
    to = keys + position // CHUNK * CHUNK * head_dim + position % CHUNK * 4
    for dim in range(0, head_dim, 4):
        store_int(to + 16 * dim, load_int(data + HEAD + dim) ^ _SIGNS)


@called
def store_value_bytes(
    vectors: Int, head_dim: Int, position: Int, capacity: Int, values: Int, scales: Int, data: Int
) -> None:
    """Write a value into its place; arguments as in `store_key_bytes`, and the positions there are in all."""
    quantize(vectors, head_dim, data, _ONE)
    store_float(scales + 4 * position, load_float(data))
    to = values + position // 4 * 64 + position % 4
    for dim in range(head_dim):
        move_byte(data + HEAD + dim, to + dim // 16 * 16 * capacity + dim % 16 * 4)


@called
def store_key_floats(vectors: Int, head_dim: Int, position: Int, keys: Int) -> None:
    """Write a key into its place."""
    to = keys + 4 * (position // CHUNK * CHUNK * head_dim + position % CHUNK)
    for dim in range(head_dim):
        store_float(to + 64 * dim, load_float(vectors + 4 * dim))


@inlined
def store_value_floats(vectors: Int, head_dim: Int, position: Int, values: Int) -> None:
    """Write a value into its place."""
    for dim in range(0, head_dim, 16):
        store_floats(values + 4 * (position * head_dim + dim), load_floats(vectors + 4 * dim))


@called
def attend_bytes(
    queries: Int, head_dim: Int, length: Int, capacity: Int, keys: Int, key_scales: Int, values: Int,
    value_scales: Int, data: Int, scores: Int, out: Int,
) -> None:  # fmt: skip
    """Write the mean of the first values, weighted by softmax(query . key).

    Args:
        queries: float32 [H], scaled.
        head_dim: H.
        length: positions to attend to.
        capacity: positions there are.
        keys: of this head.
        key_scales: of its positions.
        values: of this head.
        value_scales: of its positions.
        data: room for a head's activations, and for two bytes for each position.
        scores: room for a float32 for each position.
        out: float32 [H].
    """
    quantize(queries, head_dim, data, _ONE)
    start, by = ints(np.int32(-128) * load_int(data + 4)), floats(load_float(data))
    top, num_chunks = floats(LOWEST), (length + CHUNK - 1) // CHUNK
    for chunk in range(num_chunks):
        a, x = start, data + HEAD
        for _ in range(0, head_dim, 4):
            a = dot(a, load_bytes(keys), spread_bytes(x))
            keys, x = keys + 64, x + 4
        scored = to_floats(a) * (load_floats(key_scales + 64 * chunk) * by)
        scored = first_lanes(length - chunk * CHUNK, scored, floats(LOWEST))
        store_floats(scores + 64 * chunk, scored)
        top = maximum(scored, top)
    summed, step = _weigh(scores, value_scales, num_chunks, largest(top))
    inverse, high, low = floats(_ONE / step), data, data + capacity
    for chunk in range(num_chunks):
        whole = rounded(load_floats(scores + 64 * chunk) * inverse)
        store_low_bytes(high + CHUNK * chunk, high_bytes(whole))
        store_low_bytes(low + CHUNK * chunk, whole)
    scale = floats(step / summed)
    for _ in range(0, head_dim, 16):
        a = ints(np.int32(0))
        b, c, d = a, a, a
        for place in range(0, num_chunks * CHUNK, 8):
            one, two = load_bytes(values + 16 * place), load_bytes(values + 16 * place + 64)
            a, b = dot(a, spread_bytes(high + place), one), dot(b, spread_bytes(low + place), one)
            c, d = dot(c, spread_bytes(high + place + 4), two), dot(d, spread_bytes(low + place + 4), two)
        store_floats(out, multiply_add(to_floats(a + c), floats(np.float32(256)), to_floats(b + d)) * scale)
        values, out = values + 16 * capacity, out + 64


@inlined
def _weigh(scores: Int, value_scales: Int, num_chunks: Int, highest: float) -> tuple[float, float]:
    """Replace scores by weights times their value's scale; returns the weights' sum, and a 65,535th of the largest."""
    summed, top = floats(np.float32(0)), floats(np.float32(1e-30))
    for chunk in range(num_chunks):
        weight = exponential(load_floats(scores + 64 * chunk) - floats(highest))
        summed = summed + weight
        weight = weight * load_floats(value_scales + 64 * chunk)
        store_floats(scores + 64 * chunk, weight)
        top = maximum(weight, top)
    return total(summed), largest(top) / _WEIGHT_STEPS


@called
def attend_floats(queries: Int, head_dim: Int, length: Int, keys: Int, values: Int, scores: Int, out: Int) -> None:
    """Write the mean of the first values, weighted by softmax(query . key); arguments as in `attend_bytes`."""
    num_chunks, chunk_bytes = (length + CHUNK - 1) // CHUNK, 4 * CHUNK * head_dim
    by_four = num_chunks // 4 * 4
    for chunk in range(0, by_four, 4):  # sums that do not wait for one another
        _score_four(queries, head_dim, keys + chunk * chunk_bytes, chunk_bytes, scores + 64 * chunk)
    for chunk in range(by_four, num_chunks):
        a, place = floats(np.float32(0)), keys + chunk * chunk_bytes
        for dim in range(head_dim):
            a = multiply_add(load_floats(place + 64 * dim), floats(load_float(queries + 4 * dim)), a)
        store_floats(scores + 64 * chunk, a)
    last = scores + 64 * (num_chunks - 1)
    store_floats(last, first_lanes(length - CHUNK * (num_chunks - 1), load_floats(last), floats(LOWEST)))
    top = floats(LOWEST)
    for chunk in range(num_chunks):
        top = maximum(load_floats(scores + 64 * chunk), top)
    highest, summed = floats(largest(top)), floats(np.float32(0))
    for chunk in range(num_chunks):
        weight = exponential(load_floats(scores + 64 * chunk) - highest)
        store_floats(scores + 64 * chunk, weight)
        summed = summed + weight
    scale, by_four = floats(_ONE / total(summed)), head_dim // 64 * 64
    for dim in range(0, by_four, 64):
        _sum_four(values + 4 * dim, head_dim, num_chunks * CHUNK, scores, scale, out + 4 * dim)
    for dim in range(by_four, head_dim, 16):
        a = floats(np.float32(0))
        b, place = a, values + 4 * dim
        for position in range(0, num_chunks * CHUNK, 2):  # beyond the length, weights are nothing and values finite
            a = multiply_add(load_floats(place), floats(load_float(scores + 4 * position)), a)
            b = multiply_add(load_floats(place + 4 * head_dim), floats(load_float(scores + 4 * position + 4)), b)
            place += 8 * head_dim
        store_floats(out + 4 * dim, (a + b) * scale)


@called
def _score_four(queries: Int, head_dim: Int, keys: Int, chunk_bytes: Int, scores: Int) -> None:
    """Write the scores of four chunks."""
    a = floats(np.float32(0))
    b, c, d = a, a, a
    for dim in range(head_dim):
        x = floats(load_float(queries + 4 * dim))
        a = multiply_add(load_floats(keys), x, a)
        b = multiply_add(load_floats(keys + chunk_bytes), x, b)
        c = multiply_add(load_floats(keys + 2 * chunk_bytes), x, c)
        d = multiply_add(load_floats(keys + 3 * chunk_bytes), x, d)
        keys += 64
    store_floats(scores, a)
    store_floats(scores + 64, b)
    store_floats(scores + 128, c)
    store_floats(scores + 192, d)


@called
def _sum_four(values: Int, head_dim: Int, num_positions: Int, weights: Int, scale: Vector, out: Int) -> None:
    """Write 64 dims of the weighted sum of values; those of even positions and of odd ones are added up apart."""
    a = floats(np.float32(0))
    b, c, d, e, f, g, h = a, a, a, a, a, a, a
    for _ in range(0, num_positions, 2):  # beyond the length, weights are nothing and values finite
        x, y, odd = floats(load_float(weights)), floats(load_float(weights + 4)), values + 4 * head_dim
        a, b = multiply_add(load_floats(values), x, a), multiply_add(load_floats(odd), y, b)
        c, d = multiply_add(load_floats(values + 64), x, c), multiply_add(load_floats(odd + 64), y, d)
        e, f = multiply_add(load_floats(values + 128), x, e), multiply_add(load_floats(odd + 128), y, f)
        g, h = multiply_add(load_floats(values + 192), x, g), multiply_add(load_floats(odd + 192), y, h)
        values, weights = values + 8 * head_dim, weights + 8
    store_floats(out, (a + b) * scale)
    store_floats(out + 64, (c + d) * scale)
    store_floats(out + 128, (e + f) * scale)
    store_floats(out + 192, (g + h) * scale)
