"""From logits to the next token: settings, what a continuation remembers, its distribution, and a draw from it.

`distribution` and `draw` are two steps so that a draft's tokens can be accepted by comparing two distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.runtime.sampling_kernels import drawn, fill_probs, penalize

Probs = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn; the defaults are the reference's.

    They apply in this order: logit bias, repetition, frequency and presence penalty, a forbidden EOS, temperature,
    top-k, top-p, min-p, typical. Each of the last four sees the probabilities that those before it leave.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens that hold this much probability together; 1 keeps all.
        min_p: keep tokens at least this likely relative to the likeliest; 0 keeps all.
        typical_p: keep the tokens whose surprise is nearest to the expected, that hold this much together; 1 keeps all.
        repetition_penalty: divides positive and multiplies negative logits of tokens already seen; 1 is none.
        presence_penalty: taken from the logit of every token drawn before; the prompt does not count. 0 is none.
        frequency_penalty: taken from it once for each time that it was drawn; 0 is none.
        logit_bias: added to the logits of these token ids; -inf forbids one.
        min_new_tokens: EOS is not drawn before so many tokens.
        ignore_eos: EOS is never drawn.
    """

    temperature: float = 0.9
    top_k: int = 0
    top_p: float = 0.65
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.15
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_new_tokens: int = 0
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        is_usable = self.temperature == 0 or 0.001 <= self.temperature <= 100
        _require("temperature", self.temperature, is_usable, "a number from 0.001 to 100, or 0")
        _require("top_k", self.top_k, _is_count(self.top_k), "a whole number, 0 or more")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "a number above 0 and at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "a number between 0 and 1")
        _require("typical_p", self.typical_p, 0 < self.typical_p <= 1, "a number above 0 and at most 1")
        is_usable = 0.01 <= self.repetition_penalty <= 100
        _require("repetition_penalty", self.repetition_penalty, is_usable, "a number from 0.01 to 100")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(name, value, -100 <= value <= 100, "a number from -100 to 100")
        for token_id, bias in self.logit_bias.items():
            _require("a token id of logit_bias", token_id, _is_count(token_id), "a whole number, 0 or more")
            _require(f"logit_bias of token {token_id}", bias, bias < math.inf, "a number, or -inf to forbid it")
        _require("min_new_tokens", self.min_new_tokens, _is_count(self.min_new_tokens), "a whole number, 0 or more")


class SamplingState:
    """What the distribution of the next token depends on besides the logits: settings, and the tokens so far.

    It follows the tokens one by one, so a step costs the same however long the text has become.

    Args:
        sampling: the settings.
        prompt_ids: the text that is continued.
        vocab_size: number of logits; every token id is below it.
        eos_token_id: the token that `min_new_tokens` and `ignore_eos` forbid.
    """

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int], *, vocab_size: int, eos_token_id: int) -> None:
        self.sampling = sampling
        self.output_ids: list[int] = []
        self._eos_token_id = eos_token_id
        self._bias_ids = np.array(list(sampling.logit_bias), np.int64)
        self._biases = np.array(list(sampling.logit_bias.values()), np.float64)
        self._output_counts_V = np.zeros(vocab_size, np.int64)
        self._counts_V = np.bincount(np.asarray(prompt_ids, np.int64), minlength=vocab_size)
        distinct = np.flatnonzero(self._counts_V)
        self._seen_ids = np.zeros(vocab_size, np.int64)  # each token once, in the order in which they came
        self._seen_ids[: distinct.size] = distinct
        self._num_seen = distinct.size

    def push(self, token_id: int) -> None:
        """Add a token to the output."""
        self.output_ids.append(token_id)
        self._output_counts_V[token_id] += 1
        if self._counts_V[token_id] == 0:
            self._seen_ids[self._num_seen] = token_id
            self._num_seen += 1
        self._counts_V[token_id] += 1

    def pop(self) -> int:
        """Take the last token of the output back, as when a draft is rejected, and return it."""
        token_id = self.output_ids.pop()
        self._output_counts_V[token_id] -= 1
        self._counts_V[token_id] -= 1
        self._num_seen -= int(self._counts_V[token_id] == 0)  # it then was the last to be seen for the first time
        return token_id

    def penalized(self, logits_V: NDArray[np.floating]) -> Probs:
        """Return the logits [V] as float64 with the biases, penalties and bans that come before the temperature."""
        sampling, scores_V = self.sampling, np.array(logits_V, np.float64)
        is_forbidden = sampling.ignore_eos or len(self.output_ids) < sampling.min_new_tokens
        penalize(
            scores_V,
            self._bias_ids,
            self._biases,
            self._seen_ids,
            self._num_seen,
            self._output_counts_V,
            float(sampling.repetition_penalty),
            float(sampling.presence_penalty),
            float(sampling.frequency_penalty),
            self._eos_token_id if is_forbidden else -1,
        )
        return scores_V


def distribution(logits_V: NDArray[np.floating], state: SamplingState) -> Probs:
    """Return the probabilities [V] of the next token, which sum to 1; the logits are left as they are.

    Args:
        logits_V: of every token, -inf where one must not be drawn; neither NaN nor inf.
        state: settings and tokens so far.

    Raises:
        UserError: no token may be drawn.
    """
    sampling, scores_V = state.sampling, state.penalized(logits_V)
    probs_V = np.empty_like(scores_V)
    if not fill_probs(
        scores_V,
        float(sampling.temperature),
        int(sampling.top_k),
        float(sampling.top_p),
        float(sampling.min_p),
        float(sampling.typical_p),
        probs_V,
    ):
        raise none_left()
    return probs_V


def draw(probs_V: Probs, generator: np.random.Generator) -> int:
    """Draw a token with these probabilities [V], which sum to 1, for one random number of the generator."""
    return int(drawn(probs_V, generator.random()))


def sample(logits_V: NDArray[np.floating], state: SamplingState, generator: np.random.Generator) -> int:
    """Draw the next token: a function of logits, settings, tokens so far and the generator's state alone."""
    return draw(distribution(logits_V, state), generator)


def none_left() -> UserError:
    """Return the refusal of settings under which no token may be drawn."""
    return UserError("every token is forbidden", fix="forbid fewer tokens with logit_bias, ignore_eos or the like")


def generator_of(seed: int, continuation: int = 0) -> np.random.Generator:
    """Return the random numbers of one of several continuations of a prompt.

    Args:
        seed: whole number, 0 or above.
        continuation: its index; that of a prompt's first or only one is 0. It gets the same numbers however many
            others there are, and none of theirs.

    Raises:
        UserError: the seed is negative.
    """
    _require("seed", seed, _is_count(seed), "a whole number, 0 or above")
    spawn_key = (continuation,) if continuation else ()
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))


def _is_count(value: float) -> bool:
    return value >= 0 and value == int(value) if math.isfinite(value) else False


def _require(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}", fix=f"use {wanted}")
