"""From logits to the next token, on NumPy alone, in the order transformers applies the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stentor.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn; the defaults are the reference's.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens that hold this much probability together; 1 keeps all.
        min_p: keep tokens at least this likely relative to the likeliest; 0 keeps all.
        repetition_penalty: divides positive and multiplies negative logits of tokens already seen; 1 is none.
    """

    temperature: float = 0.9
    top_k: int = 0
    top_p: float = 0.65
    min_p: float = 0.0
    repetition_penalty: float = 1.15

    def __post_init__(self) -> None:
        is_usable = self.temperature == 0 or 0.001 <= self.temperature <= 100
        _require("temperature", self.temperature, is_usable, "from 0.001 to 100, or 0")
        _require("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "between 0 and 1")
        is_usable = 0.01 <= self.repetition_penalty <= 100
        _require("repetition_penalty", self.repetition_penalty, is_usable, "from 0.01 to 100")


def sample(logits_V: np.ndarray, seen_ids: Sequence[int], sampling: Sampling, generator: np.random.Generator) -> int:
    """Draw the next token.

    Args:
        logits_V: of every token; -inf where one must not be drawn.
        seen_ids: prompt and output so far, for the repetition penalty.
        sampling: the settings.
        generator: source of the one random number a draw takes.
    """
    logits_V = penalize_repetition(logits_V.astype(np.float64), seen_ids, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(np.argmax(logits_V))
    probs_V = distribution(logits_V / sampling.temperature, sampling)
    cumulative_V = np.cumsum(probs_V)
    return int(np.searchsorted(cumulative_V, generator.random() * cumulative_V[-1], side="right"))


def penalize_repetition(logits_V: np.ndarray, seen_ids: Sequence[int], penalty: float) -> np.ndarray:
    """Make tokens already seen less likely (Keskar et al. 2019, "CTRL", arXiv 1909.05858, section 4.1)."""
    if penalty == 1 or not seen_ids:
        return logits_V
    seen = np.unique(np.asarray(seen_ids))
    penalized_V = logits_V.copy()
    penalized_V[seen] = np.where(logits_V[seen] > 0, logits_V[seen] / penalty, logits_V[seen] * penalty)
    return penalized_V


def distribution(logits_V: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Return the probabilities, summing to 1, that top-k, top-p and min-p leave.

    References: Holtzman et al. 2020, arXiv 1904.09751 (top-p); Nguyen et al. 2024, arXiv 2407.01082 (min-p).
    """
    if 0 < sampling.top_k < len(logits_V):
        smallest_kept = np.partition(logits_V, -sampling.top_k)[-sampling.top_k]
        logits_V = np.where(logits_V < smallest_kept, -np.inf, logits_V)
    probs_V = softmax(logits_V)
    if sampling.top_p < 1:
        order = np.argsort(-probs_V, kind="stable")
        mass_before = np.cumsum(probs_V[order]) - probs_V[order]
        probs_V[order[mass_before >= sampling.top_p]] = 0
        probs_V /= probs_V.sum()
    if sampling.min_p > 0:
        probs_V[probs_V < sampling.min_p * probs_V.max()] = 0
        probs_V /= probs_V.sum()
    return probs_V


def softmax(logits_V: np.ndarray) -> np.ndarray:
    """Return exp(logits) normalised to sum to 1."""
    exponentials_V = np.exp(logits_V - logits_V.max())
    return exponentials_V / exponentials_V.sum()


def _require(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}", fix=f"use a number {wanted}")
