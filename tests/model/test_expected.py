"""A few tokens stand for a distribution: the likeliest exactly, the rest in the mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.model.expected import drawn, packed, unpacked


def logits(rows: int, vocab_size: int, *, spread: float = 2.0, seed: int = 0) -> torch.Tensor:
    return spread * torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed))


def rows_of(logits_NV: torch.Tensor, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return unpacked(drawn(logits_NV, count, torch.Generator().manual_seed(seed)))


@given(st.integers(1, 8), st.integers(20, 400), st.floats(0.0, 8.0), st.integers(0, 10**6))
def test_no_token_is_named_twice_and_all_weigh_one(quarter, vocab_size, spread, seed):
    count = min(4 * quarter, vocab_size // 4 * 4)
    ids_NK, weights_NK = rows_of(logits(3, vocab_size, spread=spread, seed=seed), count, seed)
    assert ids_NK.shape == weights_NK.shape == (3, count)
    assert ids_NK.max() < vocab_size
    torch.testing.assert_close(weights_NK.sum(dim=1), torch.ones(3))
    for ids_K, weights_K in zip(ids_NK, weights_NK, strict=True):
        meant = ids_K[weights_K > 0].tolist()
        assert len(set(meant)) == len(meant)


def test_the_likeliest_keep_their_probabilities():
    logits_NV = logits(5, 300)
    q_NV = logits_NV.softmax(dim=-1)
    ids_NK, weights_NK = rows_of(logits_NV, 32)
    likeliest = q_NV.topk(24, dim=-1)
    assert torch.equal(ids_NK[:, :24], likeliest.indices)
    torch.testing.assert_close(weights_NK[:, :24], likeliest.values, rtol=2e-3, atol=1e-6)


def test_in_the_mean_every_token_has_its_probability():
    """The slow twin is the distribution itself: 4,000 rows of the same logits, each drawn on its own."""
    one_1V = logits(1, 60, spread=1.0)
    ids_NK, weights_NK = rows_of(one_1V.expand(4000, -1), 8)
    mean_V = torch.zeros(60).scatter_add_(0, ids_NK.flatten(), weights_NK.flatten()) / 4000
    torch.testing.assert_close(mean_V, one_1V.softmax(dim=-1)[0], rtol=0.1, atol=2e-3)


def test_a_token_that_is_met_twice_has_both_shares():
    """Of 4 drawn, the one token that has nearly all of what is left is met every time."""
    probabilities = torch.full((1, 40), 1e-6)
    probabilities[0, :12], probabilities[0, 20] = 0.05, 0.04
    ids_NK, weights_NK = rows_of(probabilities.log(), 16)
    assert (ids_NK[0] == 20).sum() == 4
    assert (weights_NK[0, 12:] > 0).sum() == 1
    assert float(weights_NK[0, 12:].sum()) == pytest.approx(0.04 / 0.64, rel=1e-2)


def test_what_is_certain_leaves_nothing_to_draw():
    certain_NV = torch.full((2, 50), -1e4)
    certain_NV[:, 7] = 0
    ids_NK, weights_NK = rows_of(certain_NV, 8)
    assert weights_NK[:, 0].tolist() == [1, 1]
    assert ids_NK[:, 0].tolist() == [7, 7]
    assert weights_NK[:, 1:].sum() == 0


def test_the_same_seed_draws_the_same():
    assert torch.equal(rows_of(logits(4, 90), 12, seed=5)[0], rows_of(logits(4, 90), 12, seed=5)[0])


def test_large_vocabularies_fit_in_16_bits():
    ids_NK, weights_NK = torch.tensor([[65_535, 32_768, 1, 0]]), torch.tensor([[0.5, 0.25, 0.125, 0.125]])
    back, weights = unpacked(packed(ids_NK, weights_NK))
    assert torch.equal(back, ids_NK)
    assert torch.equal(weights, weights_NK)
