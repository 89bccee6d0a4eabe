"""Attention over a cache of floats is the formula; over one of bytes it is near, and exact in what it rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from stentor.runtime.kernels.attention import (
    attend_bytes,
    attend_floats,
    store_key_bytes,
    store_key_floats,
    store_value_bytes,
    store_value_floats,
)

CAPACITY = 64


@njit
def _store_value_floats(vector, head_dim, position, values):
    store_value_floats(vector, head_dim, position, values)


class Cache:
    """One head's keys and values."""

    def __init__(self, head_dim: int, *, is_bytes: bool) -> None:
        self.head_dim, self.is_bytes = head_dim, is_bytes
        size = CAPACITY * head_dim * (1 if is_bytes else 4)
        self.keys, self.values = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
        self.key_scales, self.value_scales = np.zeros((2, CAPACITY), dtype=np.float32)
        self.data = np.zeros(2 * CAPACITY + head_dim + 64, dtype=np.uint8)
        self.scores = np.zeros(CAPACITY, dtype=np.float32)

    def store(self, position: int, key: np.ndarray, value: np.ndarray) -> None:
        keys, values, data = (array.ctypes.data for array in (self.keys, self.values, self.data))
        if self.is_bytes:
            scales = self.key_scales.ctypes.data, self.value_scales.ctypes.data
            store_key_bytes(key.ctypes.data, self.head_dim, position, keys, scales[0], data)
            store_value_bytes(value.ctypes.data, self.head_dim, position, CAPACITY, values, scales[1], data)
        else:
            store_key_floats(key.ctypes.data, self.head_dim, position, keys)
            _store_value_floats(value.ctypes.data, self.head_dim, position, values)

    def attend(self, query: np.ndarray, length: int) -> np.ndarray:
        out = np.zeros(self.head_dim, dtype=np.float32)
        keys, values, scores = (array.ctypes.data for array in (self.keys, self.values, self.scores))
        if self.is_bytes:
            attend_bytes(
                *(query.ctypes.data, self.head_dim, length, CAPACITY, keys, self.key_scales.ctypes.data, values),
                *(self.value_scales.ctypes.data, self.data.ctypes.data, scores, out.ctypes.data),
            )
        else:
            attend_floats(query.ctypes.data, self.head_dim, length, keys, values, scores, out.ctypes.data)
        return out


def drawn(random: np.random.Generator, head_dim: int, length: int, *, is_bytes: bool):
    """Return a filled cache, and queries, keys and values."""
    cache = Cache(head_dim, is_bytes=is_bytes)
    query, *rows = random.standard_normal((1 + 2 * length, head_dim)).astype(np.float32)
    keys, values = np.array(rows[:length]), np.array(rows[length:])
    for position in range(length):
        cache.store(position, keys[position], values[position])
    return cache, query, keys, values


def plain(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = keys.astype(np.float64) @ query
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum()


@given(st.sampled_from([16, 32, 64]), st.integers(1, CAPACITY), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_over_floats_it_is_the_formula(head_dim, length, seed):
    cache, query, keys, values = drawn(np.random.default_rng(seed), head_dim, length, is_bytes=False)
    np.testing.assert_allclose(cache.attend(query, length), plain(query, keys, values), rtol=1e-4, atol=5e-5)


def rounded(vectors: np.ndarray) -> np.ndarray:
    scales = np.abs(vectors).max(axis=-1, keepdims=True) / np.float32(127)
    return np.rint(vectors / scales) * scales


@given(st.sampled_from([16, 32, 64]), st.integers(1, CAPACITY), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_over_bytes_it_is_the_formula_of_what_was_rounded(head_dim, length, seed):
    cache, query, keys, values = drawn(np.random.default_rng(seed), head_dim, length, is_bytes=True)
    expected = plain(rounded(query), rounded(keys), rounded(values))
    np.testing.assert_allclose(cache.attend(query, length), expected, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_what_comes_later_is_not_seen(random, is_bytes):
    cache, query, _, _ = drawn(random, 32, 20, is_bytes=is_bytes)
    before = cache.attend(query, 11)
    for position in range(11, 20):
        cache.store(position, *(1000 * random.standard_normal((2, 32))).astype(np.float32))
    assert np.allclose(cache.attend(query, 11), before, rtol=1e-5, atol=1e-6 if is_bytes else 1e-30)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_position_can_be_written_again(random, is_bytes):
    cache, query, _, _ = drawn(random, 32, 20, is_bytes=is_bytes)
    before = cache.attend(query, 20)
    key, value = np.random.default_rng(8).standard_normal((2, 32)).astype(np.float32)
    _, _, keys, values = drawn(np.random.default_rng(7), 32, 20, is_bytes=is_bytes)
    cache.store(13, key, value)
    assert not np.array_equal(cache.attend(query, 20), before)
    cache.store(13, keys[13], values[13])
    assert np.array_equal(cache.attend(query, 20), before)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_one_position_is_its_value(random, is_bytes):
    cache, query, _, values = drawn(random, 16, 1, is_bytes=is_bytes)
    np.testing.assert_allclose(cache.attend(query, 1), values[0], atol=0.02 if is_bytes else 1e-6)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_scores_far_apart_leave_one_position(random, is_bytes):
    cache, query, _, _ = drawn(random, 16, 8, is_bytes=is_bytes)
    cache.store(3, 1000 * query, np.arange(16, dtype=np.float32))
    np.testing.assert_allclose(cache.attend(query, 8), np.arange(16), atol=0.1 if is_bytes else 1e-4)
