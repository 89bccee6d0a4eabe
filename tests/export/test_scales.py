"""Searched scales leave less error than the plain way, and blocks hold exactly what they were made of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.export.quantize import as_stored
from stentor.export.scales import LOWEST, best_scales, in_blocks, searched, whole_numbers

DTYPES = sorted(LOWEST)
MATRICES = hnp.arrays(np.float32, (3, 64), elements=st.floats(-100, 100, width=16))


def squared_error(values, read):
    return np.square(values.astype(np.float64) - read)


@pytest.mark.parametrize(("dtype", "gain"), [("q4_0", 0.92), ("q5_0", 0.95)])
def test_weights_like_those_of_models_lose_less_than_in_the_plain_way(dtype, gain):
    values = (np.random.default_rng(0).standard_normal((64, 256)) * 0.05).astype(np.float32)
    ours = squared_error(values, searched(values, dtype).dequantized()).sum()
    assert ours < gain * squared_error(values, as_stored(values, dtype)).sum()


@given(st.sampled_from(DTYPES), MATRICES)
def test_no_block_loses_noticeably_more_than_in_the_plain_way(dtype, values):
    def by_block(read):
        return squared_error(values, read).reshape(3, 2, 32).sum(axis=2)

    largest = np.abs(values).reshape(3, 2, 32).max(axis=2)
    ours, plain = by_block(searched(values, dtype).dequantized()), by_block(as_stored(values, dtype))
    # The scale is rounded to float16 at the end, which may cost each value half a step of that.
    room = 32 * (largest * 2.0**-10 + 16 * 2.0**-24) ** 2
    assert (ours <= 1.35 * plain + room + 1e-6 * largest**2).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scale_is_near_the_best_of_a_fine_search(dtype):
    lowest = LOWEST[dtype]
    block = (np.random.default_rng(1).standard_normal((1, 32))).astype(np.float32)
    scales = np.linspace(0.2, 3, 3000) * np.abs(block).max() / -lowest
    best = min(
        float(squared_error(block, scale * np.clip(np.rint(block / scale), lowest, -lowest - 1)).sum())
        for scale in (*scales, *-scales)
    )
    found = best_scales(block, lowest)
    ours = squared_error(block, found.astype(np.float32)[:, None] * whole_numbers(block, found, lowest)).sum()
    assert ours <= 1.05 * best


def test_places_that_count_more_are_met_better():
    generator = np.random.default_rng(2)
    blocks, weights = generator.standard_normal((200, 32)).astype(np.float32), np.ones(32, np.float32)
    weights[:4] = 1000

    def lost(scales):
        read = scales.astype(np.float32)[:, None] * whole_numbers(blocks, scales, -8)
        return (squared_error(blocks, read) * weights).sum()

    assert lost(best_scales(blocks, -8, weights)) < 0.9 * lost(best_scales(blocks, -8))


@given(st.data(), st.sampled_from(["q8_0", *DTYPES]))
def test_blocks_stand_for_the_numbers_and_scales_they_were_made_of(data, dtype):
    lowest, highest = (LOWEST[dtype], -LOWEST[dtype] - 1) if dtype in LOWEST else (-127, 127)
    whole = data.draw(hnp.arrays(np.int8, (2, 2, 32), elements=st.integers(lowest, highest)))
    scales = data.draw(hnp.arrays(np.float16, (2, 2), elements=st.floats(-10, 10, width=16)))
    made = in_blocks(whole, scales, dtype)
    assert np.array_equal(made.integers(), whole)
    assert np.array_equal(made.blocks["scale"], scales)
    assert np.array_equal(made.dequantized(), (whole * scales.astype(np.float32)[..., None]).reshape(2, 64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_and_values_beyond_all_scales_make_no_noise(dtype):
    values = np.zeros((1, 96), np.float32)
    values[0, 40], values[0, 64:] = 1e-42, 3e7
    read = searched(values, dtype).dequantized()
    assert np.isfinite(read).all()
    assert not read[0, :32].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_on_a_grid_stays_there(dtype):
    lowest = LOWEST[dtype]
    whole = np.array([*itertools.islice(itertools.cycle(range(lowest, -lowest)), 32)], dtype=np.float32)
    values = (whole * np.float32(0.125))[None]
    assert np.array_equal(searched(values, dtype).dequantized(), values)
