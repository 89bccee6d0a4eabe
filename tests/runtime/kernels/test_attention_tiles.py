"""Four tokens at a time attend to what each would alone, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from stentor.runtime.kernels.attention import attend_floats, store_key_floats, store_value_floats
from stentor.runtime.kernels.attention_tiles import TOKENS, attend_four

CAPACITY = 96


@njit
def _store_value_floats(vector, head_dim, position, values):
    store_value_floats(vector, head_dim, position, values)


def cached(random: np.random.Generator, head_dim: int, count: int) -> tuple[np.ndarray, ...]:
    """Return keys and values [count, H], and both as a cache holds them, with others' remains behind."""
    vectors = random.standard_normal((2, CAPACITY, head_dim)).astype(np.float32)
    keys, values = np.zeros((2, CAPACITY * head_dim), dtype=np.float32)
    for position in range(CAPACITY):
        store_key_floats(vectors[0, position].ctypes.data, head_dim, position, keys.ctypes.data)
        _store_value_floats(vectors[1, position].ctypes.data, head_dim, position, values.ctypes.data)
    return vectors[0, :count], vectors[1, :count], keys, values


@given(st.sampled_from([32, 64, 96]), st.integers(1, CAPACITY - TOKENS + 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_each_has_the_bits_it_has_alone(head_dim, length, seed):
    random = np.random.default_rng(seed)
    k_SH, v_SH, keys, values = cached(random, head_dim, length + TOKENS - 1)
    queries = np.full((TOKENS, head_dim + 16), np.float32(7))  # tokens lie apart
    queries[:, :head_dim] = random.standard_normal((TOKENS, head_dim))
    alone, scores = np.zeros((TOKENS, head_dim), dtype=np.float32), np.zeros(TOKENS * CAPACITY, dtype=np.float32)
    for token in range(TOKENS):
        addresses = (keys.ctypes.data, values.ctypes.data, scores.ctypes.data, alone[token].ctypes.data)
        attend_floats(queries[token].ctypes.data, head_dim, length + token, *addresses)
    exact = [
        exactly(queries[token, :head_dim], k_SH[: length + token], v_SH[: length + token]) for token in range(TOKENS)
    ]
    cache = keys.ctypes.data, values.ctypes.data, scores.ctypes.data
    attend_four(queries.ctypes.data, queries.strides[0], head_dim, length, CAPACITY, *cache)
    assert np.array_equal(queries[:, :head_dim], alone)
    assert queries[:, :head_dim] == pytest.approx(np.array(exact), abs=2e-5)
    assert (queries[:, head_dim:] == 7).all()


def exactly(q_H: np.ndarray, k_SH: np.ndarray, v_SH: np.ndarray) -> np.ndarray:
    """Return softmax(q . k) v."""
    scores_S = k_SH.astype(np.float64) @ q_H
    weights_S = np.exp(scores_S - scores_S.max())
    return weights_S @ v_SH / weights_S.sum()
