"""How sure a share is: Wilson's interval for one, a stratified bootstrap for the mean of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stentor.errors import UserError

CONFIDENCE = 0.95
_Z = 1.959963984540054
_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How often something was right.

    Attributes:
        num_right: times.
        num_ties: times that it was as right as wrong, which count half.
        num_asked: times in all, above 0.
    """

    num_right: int
    num_ties: int
    num_asked: int

    @property
    def share(self) -> float:
        """The share of right answers, 0 to 1."""
        return (self.num_right + self.num_ties / 2) / self.num_asked


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share with its interval of 95% confidence.

    Attributes:
        accuracy: 0 to 1.
        low: the interval's lower end.
        high: its upper end.
        num_asked: what it is a share of.
        num_ties: of these, that were counted half.
    """

    accuracy: float
    low: float
    high: float
    num_asked: int
    num_ties: int

    def __str__(self) -> str:
        return f"{self.accuracy:.2%} ({self.low:.2%} - {self.high:.2%})"


def wilson(outcomes: Outcomes) -> Accuracy:
    """Return a share with Wilson's score interval.

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference", equation 5.
    """
    if outcomes.num_asked < 1:
        raise UserError("there is nothing to evaluate", fix="pass data with at least one question")
    n, p = outcomes.num_asked, outcomes.share
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Accuracy(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), n, outcomes.num_ties)


def mean_share(groups: Sequence[Outcomes]) -> Accuracy:
    """Return the mean of the shares of groups, each group counting the same, with a percentile bootstrap interval.

    Within each group its questions are drawn anew with replacement, 2,000 times, from a fixed seed; the groups stay.

    Reference: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    generator = np.random.default_rng(_SEED)
    means = np.zeros(_RESAMPLES)
    for group in groups:
        odds = np.array([group.num_right, group.num_ties, group.num_asked - group.num_right - group.num_ties])
        drawn = generator.multinomial(group.num_asked, odds / group.num_asked, size=_RESAMPLES)
        means += (drawn[:, 0] + drawn[:, 1] / 2) / group.num_asked / len(groups)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean = math.fsum(group.share for group in groups) / len(groups)
    return Accuracy(
        mean, float(low), float(high), sum(group.num_asked for group in groups), sum(group.num_ties for group in groups)
    )
