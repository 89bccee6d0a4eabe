"""Many tokens at a time have the bits that each has alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.runtime.kernels.products import HEAD, multiply_bytes, multiply_floats
from stentor.runtime.kernels.tiles import multiply_many_bytes, multiply_many_floats
from stentor.runtime.packing import byte_panels, float_panels, rounded_rows

ROWS, COLUMNS = 128, 48
counts = st.integers(1, 13)


def made_by(function, num_tokens: int, *head: int, data: np.ndarray, one_at_a_time: bool) -> np.ndarray:
    """Return what a kernel makes of activations [K, bytes]: [K, ROWS]; whole tiles behind them it may not touch."""
    end = -(-num_tokens // 4) * 4
    junk = np.random.default_rng(0).integers(0, 256, (end - num_tokens, data.shape[1]), dtype=np.uint8)
    data, out = np.concatenate((data, junk)), np.full((end + 1, ROWS), np.float32(7))
    sizes = (ROWS, COLUMNS)
    if one_at_a_time:
        for token in range(num_tokens):
            function(*head, *sizes, data[token].ctypes.data, data.strides[0], 1, out[token].ctypes.data, out.strides[0])
    else:
        function(*head, *sizes, data.ctypes.data, data.strides[0], num_tokens, out.ctypes.data, out.strides[0])
    assert (out[end] == 7).all()
    return out[:num_tokens]


@given(counts, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_floats(num_tokens, seed):
    random = np.random.default_rng(seed)
    matrix_RC = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    x_KC = random.standard_normal((num_tokens, COLUMNS)).astype(np.float32)
    panels, data = float_panels(matrix_RC), np.zeros((num_tokens, HEAD + 4 * COLUMNS), dtype=np.uint8)
    data[:, HEAD:] = x_KC.view(np.uint8)
    many = made_by(multiply_many_floats, num_tokens, panels.ctypes.data, data=data, one_at_a_time=False)
    assert np.array_equal(many, made_by(multiply_floats, num_tokens, panels.ctypes.data, data=data, one_at_a_time=True))
    assert many == pytest.approx(x_KC @ matrix_RC.T, abs=1e-4)


@given(counts, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_bytes(num_tokens, seed):
    random = np.random.default_rng(seed)
    matrix_RC = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    whole_RC, scales_R = rounded_rows(matrix_RC)
    panels, data = byte_panels(whole_RC), np.zeros((num_tokens, HEAD + COLUMNS), dtype=np.uint8)
    x_KC = random.integers(-127, 128, (num_tokens, COLUMNS)).astype(np.int8)
    steps_K = random.uniform(0.1, 2, num_tokens).astype(np.float32)
    data[:, HEAD:] = x_KC.view(np.uint8)
    data[:, :4] = steps_K[:, None].view(np.uint8)
    data[:, 4:8] = x_KC.sum(axis=1, dtype=np.int32)[:, None].view(np.uint8)
    head = panels.ctypes.data, scales_R.ctypes.data
    many = made_by(multiply_many_bytes, num_tokens, *head, data=data, one_at_a_time=False)
    assert np.array_equal(many, made_by(multiply_bytes, num_tokens, *head, data=data, one_at_a_time=True))
    exact = (x_KC.astype(np.int64) @ whole_RC.astype(np.int64).T) * scales_R.astype(float) * steps_K[:, None]
    assert many == pytest.approx(exact, rel=1e-5)
