"""Rounded weights are near, keep what a file already rounded, and lie in panels without loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.runtime.rounding import byte_panels, float_panels, nibble_panels, rounded_blocks, rounded_rows

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture
def random() -> np.random.Generator:
    """Return the same numbers in every run."""
    return np.random.default_rng(7)


@given(st.integers(1, 3), st.integers(1, 6), seeds)
@settings(max_examples=30)
def test_panels_hold_every_weight_once(panels, columns, seed):
    whole = np.random.default_rng(seed).integers(-127, 128, (64 * panels, 4 * columns)).astype(np.int8)
    laid = byte_panels(whole).reshape(panels, columns, 64, 4)
    for row, column in ((0, 0), (64 * panels - 1, 4 * columns - 1), (37, 2)):
        assert int(laid[row // 64, column // 4, row % 64, column % 4]) - 128 == whole[row, column]
    matrix = whole.astype(np.float32)
    floats = float_panels(matrix).view(np.float32).reshape(panels, 4 * columns, 64)
    assert np.array_equal(floats.transpose(0, 2, 1).reshape(matrix.shape), matrix)


@given(st.integers(1, 4), st.integers(1, 4), seeds)
@settings(max_examples=30)
def test_panels_of_nibbles_hold_every_weight_and_scale_once(panels, blocks, seed):
    random = np.random.default_rng(seed)
    whole = random.integers(-8, 8, (16 * panels, 32 * blocks)).astype(np.int8)
    scales = random.standard_normal((16 * panels, blocks)).astype(np.float16)
    laid = nibble_panels(whole, scales).reshape(panels, -1)
    weights, halves = laid[:, : 256 * blocks].reshape(panels, blocks, 4, 16, 4), laid[:, 256 * blocks :]
    halves = np.ascontiguousarray(halves).view(np.float16).reshape(panels, blocks, 16)
    for row in range(16 * panels):
        for column in range(32 * blocks):
            byte = weights[row // 16, column // 32, column % 16 // 4, row % 16, column % 4]
            nibble = byte >> 4 if column % 32 >= 16 else byte & 15
            assert int(nibble) - 8 == whole[row, column]
        assert halves[row // 16, :, row % 16].tolist() == scales[row].tolist()


@given(seeds, st.floats(1e-4, 1e4))
@settings(max_examples=30)
def test_rows_are_rounded_by_at_most_half_a_step(seed, size):
    matrix = (np.random.default_rng(seed).standard_normal((5, 48)) * size).astype(np.float32)
    whole, scales = rounded_rows(matrix)
    assert np.abs(whole).max(axis=1).tolist() == [127] * 5
    assert (np.abs(whole * scales[:, None] - matrix) <= 0.5001 * scales[:, None]).all()


def dequantized(whole: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return whole * np.repeat(scales.astype(np.float32), 32, axis=1)


@given(seeds, st.floats(1e-4, 1e4))
@settings(max_examples=30)
def test_weights_within_the_range_are_rounded_by_at_most_half_a_step(seed, size):
    matrix = (np.random.default_rng(seed).standard_normal((4, 96)) * size).astype(np.float32)
    whole, scales = rounded_blocks(matrix)
    assert whole.min() >= -8
    assert whole.max() <= 7
    steps = np.abs(np.repeat(scales.astype(np.float32), 32, axis=1))
    inside = (whole > -8) & (whole < 7)
    assert (np.abs(dequantized(whole, scales) - matrix) <= 0.5001 * steps)[inside].all()


def test_a_block_of_a_file_keeps_its_scale_and_whole_numbers(random):
    whole = random.integers(-8, 8, (16, 64)).astype(np.int8)
    whole[0] = 3  # a scale that nothing in the block gives away
    scales = random.uniform(-0.1, 0.1, (16, 2)).astype(np.float16)
    known = np.repeat(scales.astype(np.float32), 32, axis=1)
    found = rounded_blocks(whole * known, known)
    assert np.array_equal(found[0], whole)
    assert np.array_equal(found[1], scales)


def test_padding_keeps_a_block_what_it_is(random):
    whole = random.integers(-8, 8, (16, 32)).astype(np.int8)
    whole[:, 20:] = 0
    known = np.full((16, 32), np.float32(np.float16(-0.07)))
    weights = whole * known
    known[:, 20:] = 0
    found, scales = rounded_blocks(weights, known)
    assert np.array_equal(found, whole)
    assert (scales == np.float16(-0.07)).all()


def test_a_block_cut_from_two_is_rounded_anew(random):
    matrix = random.standard_normal((16, 32)).astype(np.float32)
    known = np.full((16, 32), 0.25, dtype=np.float32)
    known[:, 11:] = 0.5
    for ours, anew in zip(rounded_blocks(matrix, known), rounded_blocks(matrix), strict=True):
        assert np.array_equal(ours, anew)


def test_nothing_and_nearly_nothing_are_zeros():
    matrix = np.zeros((16, 32), dtype=np.float32)
    matrix[3] = 1e-9
    whole, scales = rounded_blocks(matrix)
    assert not whole.any()
    assert np.isfinite(scales).all()
