"""A finished continuation, and what is noted down about each of its tokens while they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError

if TYPE_CHECKING:
    from stentor.runtime.continuation import GenerationStats


class ScoredToken(NamedTuple):
    """A token and ln p of it."""

    token_id: int
    log_prob: float


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of a prompt.

    Attributes:
        text: without the stop string that ended it.
        token_ids: all that were drawn; an EOS or a stop string that ended the text is among them.
        log_probs: ln p of each, under the model's own distribution: before biases, penalties, temperature and all
            that keeps some tokens only. None where they were not asked for.
        top_alternatives: the likeliest tokens at each place by the same measure, the likeliest first.
        stats: what it cost, and why it ended.
    """

    text: str
    token_ids: list[int]
    log_probs: list[float] | None
    top_alternatives: list[list[ScoredToken]] | None
    stats: GenerationStats

    @property
    def finish_reason(self) -> str:
        """Why it ended: `eos`, `stop`, `max_new_tokens` or `context`."""
        return self.stats.finish_reason


class TokenRecord:
    """Notes down tokens as they are drawn.

    Args:
        logprobs: how many alternatives to note with each token; 0 notes its own log-probability alone, None not
            even that.

    Raises:
        UserError: `logprobs` is negative.
    """

    def __init__(self, logprobs: int | None = None) -> None:
        if logprobs is not None and logprobs < 0:
            raise UserError(f"logprobs is {logprobs}", fix="ask for 0 alternatives or more")
        self._logprobs = logprobs
        self._token_ids: list[int] = []
        self._log_probs: list[float] = []
        self._top_alternatives: list[list[ScoredToken]] = []

    def add(self, token_id: int, logits_V: NDArray[np.floating]) -> None:
        """Note a token, drawn from these logits of the model [V]."""
        self._token_ids.append(token_id)
        if self._logprobs is not None:
            log_probs_V = log_softmax(logits_V)
            self._log_probs.append(float(log_probs_V[token_id]))
            self._top_alternatives.append(likeliest(log_probs_V, self._logprobs))

    def completion(self, text: str, stats: GenerationStats) -> Completion:
        """Return what was noted, with the text that the tokens became."""
        if self._logprobs is None:
            return Completion(text, self._token_ids, None, None, stats)
        return Completion(text, self._token_ids, self._log_probs, self._top_alternatives, stats)


def log_softmax(logits_V: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ln p of every token [V]."""
    shifted_V = logits_V.astype(np.float64) - float(logits_V.max())
    return shifted_V - np.log(np.exp(shifted_V).sum())


def likeliest(log_probs_V: NDArray[np.float64], count: int) -> list[ScoredToken]:
    """Return the likeliest tokens in order, of equals those with lower ids; none that cannot be drawn."""
    count = min(count, log_probs_V.size)
    if count == 0:
        return []
    lowest = np.partition(log_probs_V, -count)[-count]
    ids = np.flatnonzero((log_probs_V >= lowest) & np.isfinite(log_probs_V))
    ids = ids[np.argsort(-log_probs_V[ids], kind="stable")[:count]]
    return [ScoredToken(int(token_id), float(log_probs_V[token_id])) for token_id in ids]
