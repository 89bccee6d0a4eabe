"""Products of panels are those of matrices; what is quantized is what the plain formula says; tokens never mix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from stentor.runtime.kernels.products import (
    HEAD,
    multiply_bytes,
    multiply_floats,
    multiply_nibbles,
    quantize,
    sum_blocks,
    sum_of_squares,
)
from stentor.runtime.rounding import byte_panels, float_panels, nibble_panels, rounded_blocks, rounded_rows


@njit
def _quantize(values, count, data):
    quantize(values, count, data)


@njit
def _sum_blocks(data, count):
    sum_blocks(data, count)


@njit
def _squares(values, count):
    return sum_of_squares(values, count)


def activations(values: np.ndarray) -> np.ndarray:
    """Return one token's activations as the kernels lay them out."""
    data = np.zeros(HEAD + len(values), dtype=np.uint8)
    _quantize(values.ctypes.data, len(values), data.ctypes.data)
    return data


def with_block_sums(data: np.ndarray) -> np.ndarray:
    """Return one token's activations with what products of four bits need of them besides."""
    count = len(data) - HEAD
    longer = np.concatenate((data, np.zeros(count // 8, dtype=np.uint8)))
    _sum_blocks(longer.ctypes.data, count)
    return longer


def taken_apart(data: np.ndarray) -> tuple[float, int, np.ndarray]:
    return data[:4].view(np.float32)[0], data[4:8].view(np.int32)[0], data[HEAD:].view(np.int8)


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
@settings(max_examples=60)
def test_activations_are_whole_steps_of_the_largest(blocks, seed, size):
    values = (np.random.default_rng(seed).standard_normal(16 * blocks) * size).astype(np.float32)
    scale, summed, whole = taken_apart(activations(values))
    assert scale == pytest.approx(np.abs(values).max() / 127, rel=1e-6)
    assert np.abs(whole).max() == 127
    assert summed == whole.astype(np.int64).sum()
    assert np.abs(whole * scale - values).max() <= 0.5001 * scale


def test_zeros_stay_zeros():
    scale, summed, whole = taken_apart(activations(np.zeros(32, dtype=np.float32)))
    assert scale > 0
    assert summed == 0
    assert not whole.any()


def test_squares_are_summed(random):
    values = random.standard_normal(320).astype(np.float32)
    assert _squares(values.ctypes.data, 320) == pytest.approx(float((values.astype(np.float64) ** 2).sum()), rel=1e-6)


def test_bytes_may_take_the_place_of_the_floats_that_they_were(random):
    values = random.standard_normal(320).astype(np.float32)
    data = np.concatenate((np.zeros(HEAD, dtype=np.uint8), values.view(np.uint8)))
    _quantize(data[HEAD:].ctypes.data, len(values), data.ctypes.data)
    assert np.array_equal(data[: HEAD + 320][:8], activations(values)[:8])
    assert np.array_equal(data[HEAD:][:320], activations(values)[HEAD:])


def test_sums_of_blocks_undo_the_eight_that_weights_are_too_high(random):
    data = activations(random.standard_normal(96).astype(np.float32))
    sums = with_block_sums(data)[HEAD + 96 :].view(np.int32)
    assert sums.tolist() == (-8 * taken_apart(data)[2].reshape(3, 32).astype(np.int64).sum(axis=1)).tolist()


def byte_product(matrix_RC: np.ndarray, x_KC: np.ndarray) -> np.ndarray:
    """Return what the kernel makes of a matrix and the activations of some tokens."""
    whole_RC, scales_R = rounded_rows(matrix_RC)
    panels, data = byte_panels(whole_RC), np.stack([activations(x_C) for x_C in x_KC])
    out = np.zeros((len(x_KC), len(matrix_RC)), dtype=np.float32)
    multiply_bytes(
        panels.ctypes.data, scales_R.ctypes.data, matrix_RC.shape[0], matrix_RC.shape[1], data.ctypes.data,
        data.strides[0], len(x_KC), out.ctypes.data, out.strides[0],
    )  # fmt: skip
    return out


def plain_byte_product(matrix_RC: np.ndarray, x_KC: np.ndarray) -> np.ndarray:
    whole_RC, scales_R = rounded_rows(matrix_RC)
    rows = []
    for x_C in x_KC:
        scale, _, whole_C = taken_apart(activations(x_C))
        exact_R = whole_RC.astype(np.int32) @ whole_C.astype(np.int32)
        rows.append(exact_R.astype(np.float32) * (scales_R * np.float32(scale)))
    return np.array(rows, dtype=np.float32)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_product_of_bytes_is_the_plain_one_bit_for_bit(panels, blocks, tokens, seed):
    random = np.random.default_rng(seed)
    matrix_RC = random.standard_normal((64 * panels, 16 * blocks)).astype(np.float32)
    x_KC = random.standard_normal((tokens, 16 * blocks)).astype(np.float32)
    assert np.array_equal(byte_product(matrix_RC, x_KC), plain_byte_product(matrix_RC, x_KC))


def test_a_product_of_bytes_is_close_to_the_true_one(random):
    matrix_RC, x_KC = (random.standard_normal(shape).astype(np.float32) for shape in ((128, 256), (3, 256)))
    true = x_KC.astype(np.float64) @ matrix_RC.T
    assert np.abs(byte_product(matrix_RC, x_KC) - true).max() < 0.02 * np.abs(true).max()


def float_product(matrix_RC: np.ndarray, x_KC: np.ndarray) -> np.ndarray:
    panels, data = float_panels(matrix_RC), np.zeros((len(x_KC), HEAD + 4 * x_KC.shape[1]), dtype=np.uint8)
    data[:, HEAD:] = x_KC.view(np.uint8)
    out = np.zeros((len(x_KC), len(matrix_RC)), dtype=np.float32)
    multiply_floats(
        panels.ctypes.data, matrix_RC.shape[0], matrix_RC.shape[1], data.ctypes.data, data.strides[0], len(x_KC),
        out.ctypes.data, out.strides[0],
    )  # fmt: skip
    return out


@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_product_of_floats_is_the_true_one_to_rounding(panels, columns, tokens, seed):
    random = np.random.default_rng(seed)
    matrix_RC = random.standard_normal((64 * panels, columns)).astype(np.float32)
    x_KC = random.standard_normal((tokens, columns)).astype(np.float32)
    np.testing.assert_allclose(
        float_product(matrix_RC, x_KC), x_KC.astype(np.float64) @ matrix_RC.T, rtol=1e-4, atol=1e-5
    )


def nibble_product(matrix_RC: np.ndarray, x_KC: np.ndarray) -> np.ndarray:
    """Return what the kernel makes of a matrix in four bits and the activations of some tokens."""
    panels = nibble_panels(*rounded_blocks(matrix_RC))
    data = np.stack([with_block_sums(activations(x_C)) for x_C in x_KC])
    out = np.zeros((len(x_KC), len(matrix_RC)), dtype=np.float32)
    multiply_nibbles(
        panels.ctypes.data, matrix_RC.shape[0], matrix_RC.shape[1], data.ctypes.data, data.strides[0], len(x_KC),
        out.ctypes.data, out.strides[0],
    )  # fmt: skip
    return out


def plain_nibble_product(matrix_RC: np.ndarray, x_KC: np.ndarray) -> np.ndarray:
    """Add up block after block; only what is rounded twice where the kernel rounds once is done in float64."""
    whole_RC, scales_RB = rounded_blocks(matrix_RC)
    rows = []
    for x_C in x_KC:
        scale, _, whole_C = taken_apart(activations(x_C))
        summed_R = np.zeros(len(matrix_RC), dtype=np.float32)
        for block in range(matrix_RC.shape[1] // 32):
            columns = slice(32 * block, 32 * block + 32)
            exact_R = whole_RC[:, columns].astype(np.int64) @ whole_C[columns].astype(np.int64)
            summed_R = (exact_R * scales_RB[:, block].astype(np.float64) + summed_R).astype(np.float32)
        rows.append(summed_R * np.float32(scale))
    return np.array(rows, dtype=np.float32)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_product_of_nibbles_is_the_plain_one_bit_for_bit(panels, blocks, tokens, seed):
    random = np.random.default_rng(seed)
    matrix_RC = random.standard_normal((16 * panels, 32 * blocks)).astype(np.float32)
    x_KC = random.standard_normal((tokens, 32 * blocks)).astype(np.float32)
    assert np.array_equal(nibble_product(matrix_RC, x_KC), plain_nibble_product(matrix_RC, x_KC))


def test_a_product_of_nibbles_is_exact_at_the_ends_of_the_range():
    matrix_RC = np.resize(np.array([-8, 7], dtype=np.float32), (16, 64))
    matrix_RC[::2] *= -1
    x_KC = np.resize(np.array([127, -127, -127], dtype=np.float32), (2, 64))
    assert np.array_equal(nibble_product(matrix_RC, x_KC), plain_nibble_product(matrix_RC, x_KC))


@pytest.mark.parametrize("product", [byte_product, float_product, nibble_product])
def test_a_token_has_the_same_bits_in_any_company(random, product):
    matrix_RC, x_KC = (random.standard_normal(shape).astype(np.float32) for shape in ((192, 64), (7, 64)))
    together = product(matrix_RC, x_KC)
    for token in range(7):
        assert np.array_equal(product(matrix_RC, x_KC[token : token + 1])[0], together[token])


def test_rows_of_zeros_are_no_division_by_zero():
    whole_RC, scales_R = rounded_rows(np.zeros((64, 16), dtype=np.float32))
    assert not whole_RC.any()
    assert (scales_R > 0).all()
