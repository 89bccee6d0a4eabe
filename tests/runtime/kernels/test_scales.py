"""Scales leave the least error of all that are tried, and never more than the plain ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.runtime.kernels.scales import TRIED, choose_scales


def chosen(blocks: np.ndarray) -> np.ndarray:
    """Return what the kernel writes for blocks [N, 32]."""
    scales = np.full(len(blocks), -1, dtype=np.float32)
    choose_scales(blocks.ctypes.data, len(blocks), scales.ctypes.data)
    return scales


def error(block: np.ndarray, scale: float) -> float:
    """Return the squared error of a block whose weights go to the nearest multiple there is."""
    whole = np.clip(np.rint(block / scale), -8, 7) if scale else np.zeros(32)
    return float(((whole * scale - block) ** 2).sum())


def plainly_chosen(block: np.ndarray) -> float:
    """Return the error of whole numbers with the best scale for them, whichever of those tried are best."""
    top, block = block[np.argmax(np.abs(block))], block.astype(np.float64)
    errors = []
    for tried in TRIED:
        whole = np.clip(np.rint(block * (tried / top)), -8, 7)
        errors.append(float(((block - whole * (block @ whole) / (whole @ whole)) ** 2).sum()))
    return min(errors)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.sampled_from([2, 5, 1000]))
@settings(max_examples=40)
def test_no_scale_that_is_tried_leaves_less(seed, size, tails):
    blocks = (np.random.default_rng(seed).standard_t(tails, (20, 32)) * size).astype(np.float32)
    for block, scale in zip(blocks, chosen(blocks), strict=True):
        exact = block.astype(np.float64)
        assert error(exact, scale) <= plainly_chosen(block) * (1 + 1e-4)
        assert error(exact, scale) <= error(exact, float(block[np.argmax(np.abs(block))]) / -8) * (1 + 1e-4)


def test_a_search_is_worth_it(random):
    blocks = random.standard_normal((500, 32)).astype(np.float32)
    tops = blocks[np.arange(500), np.abs(blocks).argmax(axis=1)]
    plain, searched = (
        sum(error(block, scale) for block, scale in zip(blocks, scales, strict=True))
        for scales in (tops / -8, chosen(blocks))
    )
    assert searched < 0.92 * plain


def test_blocks_that_are_multiples_are_kept(random):
    whole = random.integers(-8, 8, (50, 32)).astype(np.float32)
    whole[:, 3] = -8
    blocks = whole * random.uniform(-2, 2, (50, 1)).astype(np.float32)
    for block, scale in zip(blocks, chosen(blocks), strict=True):
        assert error(block, scale) < 1e-9 * (block**2).sum()


def test_zeros_have_no_scale():
    blocks = np.zeros((3, 32), dtype=np.float32)
    blocks[1, 5] = -2
    assert chosen(blocks)[[0, 2]].tolist() == [0, 0]
    assert error(blocks[1], chosen(blocks)[1]) < 1e-12
