"""Intervals: known values, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.evaluate.intervals import Accuracy, Outcomes, mean_share, wilson

OUTCOMES = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300)).filter(sum)


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 148, 0.0624, 0.1605)],
)
def test_wilsons_interval_has_published_values(right, asked, low, high):
    found = wilson(Outcomes(right, 0, asked))
    assert found.accuracy == right / asked
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


@given(OUTCOMES)
def test_a_share_lies_within_its_interval(counts):
    right, ties, wrong = counts
    found = wilson(Outcomes(right, ties, right + ties + wrong))
    assert 0 <= found.low <= found.accuracy <= found.high <= 1
    assert found.accuracy == pytest.approx((right + ties / 2) / sum(counts))
    assert (found.num_asked, found.num_ties) == (sum(counts), ties)


@given(OUTCOMES)
def test_a_tie_counts_half(counts):
    right, ties, _ = counts
    halves = Outcomes(2 * right + ties, 0, 2 * sum(counts)).share
    assert Outcomes(right, ties, sum(counts)).share == pytest.approx(halves)


@given(st.lists(OUTCOMES, min_size=1, max_size=5))
def test_a_mean_counts_groups_the_same_and_lies_near_its_interval(groups):
    outcomes = [Outcomes(right, ties, right + ties + wrong) for right, ties, wrong in groups]
    found = mean_share(outcomes)
    assert found.accuracy == pytest.approx(np.mean([group.share for group in outcomes]))
    assert 0 <= found.low <= found.high <= 1 + 1e-12
    assert found.num_asked == sum(map(sum, groups))
    assert mean_share(outcomes) == found  # the seed is fixed


def test_certain_groups_leave_no_doubt():
    found = mean_share([Outcomes(9, 0, 9), Outcomes(0, 0, 4)])
    assert (found.accuracy, found.low, found.high) == (0.5, 0.5, 0.5)
    found = mean_share([Outcomes(0, 7, 7)])
    assert (found.accuracy, found.low, found.high, found.num_ties) == (0.5, 0.5, 0.5, 7)


def test_the_bootstrap_is_as_wide_as_the_normal_approximation():
    groups = [Outcomes(700, 0, 1000)] * 67
    found = mean_share(groups)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 67_000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_wilson_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    found = [wilson(Outcomes(int(count), 0, 50)) for count in generator.binomial(50, 0.8, 2000)]
    assert np.mean([one.low <= 0.8 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_nothing_has_no_share():
    with pytest.raises(UserError, match="nothing to evaluate"):
        wilson(Outcomes(0, 0, 0))


def test_it_reads_well():
    assert str(Accuracy(0.5, 0.25, 0.75, 4, 0)) == "50.00% (25.00% - 75.00%)"
