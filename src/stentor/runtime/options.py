"""How likely are some ways to go on: the log-probability of each option after a context that is read once.

On the CPU's own engine tokens of many questions share a pass. What an option left in the cache is overwritten by the
next one, which begins where the context ends, so a context is forked without copying its keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.labels import IGNORED_LABEL
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork
from stentor.runtime.network import CachedNetwork, require_readable

QUESTIONS_AT_ONCE = 32
"""Whose tokens share the passes of a thread."""
_PADDED_LOGITS = 1 << 25
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Question:
    """Tokens, and how they may go on.

    Attributes:
        context: ids that are read before, at least one.
        options: ids of each way to go on; an empty one is certain.
    """

    context: Sequence[int]
    options: Sequence[Sequence[int]]

    @property
    def num_positions(self) -> int:
        """Positions that are read: the last token of an option is predicted alone."""
        return len(self.context) + max(0, max(map(len, self.options), default=0) - 1)


@dataclass(frozen=True, slots=True)
class OptionScores:
    """What a network thinks of the options of a question.

    Attributes:
        log_probs: sum of ln p of the tokens of each, in nats.
        are_greedy: whether each of its tokens is the likeliest one.
    """

    log_probs: list[float]
    are_greedy: list[bool]


@runtime_checkable
class WindowScorer(Protocol):
    """A network that scores padded rows at once, as those in torch do."""

    def window_scores(
        self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Return -ln p of targets [B, T], and whether each is the likeliest; see `measure.Scorer.window_nats`."""
        ...


def fitted(context: Sequence[int], options: Sequence[Sequence[int]], context_length: int) -> Question:
    """Return a question that a network can read: the end of the context, as much of it as there is room for.

    Raises:
        UserError: an option alone is longer than the context of the network.
    """
    longest = max(map(len, options), default=0)
    if longest > context_length:
        raise UserError(
            f"an option of {longest} tokens is longer than the model's context of {context_length}",
            fix="shorten it, or use a model with a longer context",
        )
    return Question(context[-(context_length + 1 - max(1, longest)) :], options)


def score_options(
    network: CachedNetwork, questions: Sequence[Question], *, on_progress: Progress | None = None
) -> list[OptionScores]:
    """Score the options of questions; the result does not depend on their company or on the number of threads.

    Args:
        network: remembers nothing here.
        questions: that it can read; see `fitted`.
        on_progress: called with (questions done, questions in all).

    Raises:
        UserError: a question is too long, or has a token that the vocabulary does not have.
    """
    for question in questions:
        all_ids = [*question.context, *(token_id for option in question.options for token_id in option)]
        require_readable(network.config, all_ids, 0, question.num_positions - 1)
    if isinstance(network, CpuNetwork):
        pieces = _on_cpu(network, questions)
    elif isinstance(network, WindowScorer):
        pieces = _in_rows(network, network.config.vocab_size, questions)
    else:
        pieces = ([_one_by_one(network.fresh(), question)] for question in questions)
    scores: list[OptionScores] = []
    for piece in pieces:
        scores += piece
        if on_progress:
            on_progress(len(scores), len(questions))
    return scores


def target_scores(
    logits_KV: NDArray[np.float32], rows_M: Sequence[int] | NDArray[np.integer], targets_M: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return ln p [M] of tokens after rows of logits, and whether each is the likeliest; the logits are used up."""
    rows, targets = np.asarray(rows_M), np.asarray(targets_M)
    chosen_M, highest_K = logits_KV[rows, targets].astype(np.float64), logits_KV.max(axis=1)
    np.subtract(logits_KV, highest_K[:, None], out=logits_KV)
    np.exp(logits_KV, out=logits_KV)
    log_sum_K = np.log(logits_KV.sum(axis=1, dtype=np.float64)) + highest_K
    return chosen_M - log_sum_K[rows], chosen_M == highest_K[rows]


class _Sums:
    """Adds up what is found of the tokens of options.

    Args:
        questions: whose options they are.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.first = np.cumsum([0, *(len(question.options) for question in questions)]).tolist()
        self._log_probs, self._are_greedy = np.zeros(self.first[-1]), np.ones(self.first[-1], dtype=bool)

    def add(self, places: Sequence[int], log_probs: NDArray[np.float64], are_highest: NDArray[np.bool_]) -> None:
        """Add tokens, each of an option by its number among all."""
        np.add.at(self._log_probs, places, log_probs)
        np.logical_and.at(self._are_greedy, places, are_highest)

    def scores(self) -> list[OptionScores]:
        """Return what was found of each question."""
        log_probs, are_greedy = self._log_probs.tolist(), self._are_greedy.tolist()
        return [
            OptionScores(log_probs[start:end], are_greedy[start:end])
            for start, end in zip(self.first, self.first[1:], strict=False)
        ]


# --- on the CPU's own engine ---


def _on_cpu(network: CpuNetwork, questions: Sequence[Question]) -> Iterator[list[OptionScores]]:
    """Yield the scores of groups in order, each read by one thread."""
    groups = [questions[start : start + QUESTIONS_AT_ONCE] for start in range(0, len(questions), QUESTIONS_AT_ONCE)]
    num_threads, idle = min(network.max_threads, len(groups)), SimpleQueue[CpuNetwork]()
    longest = max((question.num_positions for question in questions), default=0)
    for _ in range(num_threads):
        idle.put(network.fresh(QUESTIONS_AT_ONCE, num_threads=1, context_length=longest))

    def score(group: Sequence[Question]) -> list[OptionScores]:
        own = idle.get()
        try:
            return _score_group(own, group)
        finally:
            idle.put(own)

    pool = ThreadPoolExecutor(max(1, num_threads))
    try:
        yield from pool.map(score, groups)
    finally:  # whoever is interrupted waits for the groups that are being read, and for no more
        pool.shutdown(cancel_futures=True)


def _score_group(network: CpuNetwork, group: Sequence[Question]) -> list[OptionScores]:
    """Score questions, each in a sequence of its own: first all contexts with an option, then the other options."""
    sums = _Sums(group)
    contexts = _Tokens()
    for sequence, question in enumerate(group):
        contexts.extend(question.context[:-1], 0, sequence)
    ends = _Tokens()
    for sequence, question in enumerate(group):
        firsts = [(sums.first[sequence] + place, option[0]) for place, option in enumerate(question.options) if option]
        ends.extend(question.context[-1:], len(question.context) - 1, sequence, firsts)
        if question.options:
            ends.extend_option(question, 0, sequence, sums.first[sequence])
    _run(network, contexts, ends, sums)
    for place in range(1, max((len(question.options) for question in group), default=0)):
        tokens = _Tokens()
        for sequence, question in enumerate(group):
            if place < len(question.options):
                tokens.extend_option(question, place, sequence, sums.first[sequence] + place)
        _run(network, _Tokens(), tokens, sums)
    return sums.scores()


class _Tokens:
    """Tokens to be read: ids, positions, sequences; and what is to be predicted: after which, of which option, what."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.sequences: list[int] = []
        self.rows: list[int] = []
        self.places: list[int] = []
        self.targets: list[int] = []

    def extend(self, ids: Sequence[int], start: int, sequence: int, targets: Sequence[tuple[int, int]] = ()) -> None:
        """Add tokens of a sequence; `targets` are the options and their ids that may follow the last of them."""
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.sequences += [sequence] * len(ids)
        for place, target in targets:
            self.rows.append(len(self.ids) - 1)
            self.places.append(place)
            self.targets.append(target)

    def extend_option(self, question: Question, index: int, sequence: int, place: int) -> None:
        """Add an option's tokens but the last; each predicts the next one."""
        option = question.options[index]
        first = len(self.ids)
        self.extend(option[:-1], len(question.context), sequence)
        self.rows += range(first, len(self.ids))
        self.places += [place] * (len(self.ids) - first)
        self.targets += option[1:]


def _run(network: CpuNetwork, unscored: _Tokens, scored: _Tokens, sums: _Sums) -> None:
    """Read tokens, those without a target first, and add up what is predicted."""
    num_unscored, next_target = len(unscored.ids), 0
    ids = unscored.ids + scored.ids
    positions, sequences = unscored.positions + scored.positions, unscored.sequences + scored.sequences
    rows = np.array(scored.rows, dtype=np.int64) + num_unscored
    for start in range(0, len(ids), MAX_TOKENS):
        end = min(start + MAX_TOKENS, len(ids))
        first_scored = min(max(0, num_unscored - start), end - start - 1)
        logits_KV = network.logits(
            ids[start:end], positions[start:end], sequences[start:end], first_scored=first_scored
        )
        last_target = int(np.searchsorted(rows, end))
        if last_target > next_target:
            found = slice(next_target, last_target)
            sums.add(
                scored.places[found],
                *target_scores(logits_KV, rows[found] - start - first_scored, scored.targets[found]),
            )
        next_target = last_target


# --- on any other network ---


def _in_rows(network: WindowScorer, vocab_size: int, questions: Sequence[Question]) -> Iterator[list[OptionScores]]:
    """Yield the scores of groups in order; each option is a row with its whole context, padded."""
    width = max((question.num_positions for question in questions), default=1)
    at_once = max(1, _PADDED_LOGITS // (vocab_size * width))
    for start in range(0, len(questions), at_once):
        group = questions[start : start + at_once]
        sums, rows = _Sums(group), [(question.context, option) for question in group for option in question.options]
        inputs_BT = np.zeros((len(rows), width), dtype=np.int64)
        targets_BT = np.full((len(rows), width), IGNORED_LABEL, dtype=np.int64)
        for row, (context, option) in enumerate(rows):
            read = [*context, *option][: len(context) + max(0, len(option) - 1)]
            inputs_BT[row, : len(read)] = read
            targets_BT[row, len(context) - 1 : len(context) - 1 + len(option)] = option
            targets_BT[row, : len(context) - 1] = 0  # whatever they are: their place alone matters
        for first in range(0, len(rows), at_once):
            nats_BT, highest_BT = network.window_scores(
                inputs_BT[first : first + at_once], targets_BT[first : first + at_once]
            )
            for row, (context, option) in enumerate(rows[first : first + at_once]):
                found = slice(len(context) - 1, len(context) - 1 + len(option))
                sums.add([first + row] * len(option), -nats_BT[row, found].astype(np.float64), highest_BT[row, found])
        yield sums.scores()


def _one_by_one(network: CachedNetwork, question: Question) -> OptionScores:
    """Read the context, then each option in the place of the one before."""
    log_probs, are_greedy = [], []
    first_V = network.extend(question.context, 0)[0].copy()
    for option in question.options:
        logits_KV = first_V[None].copy()
        if len(option) > 1:
            more_KV = network.extend(option[:-1], len(question.context), all_scored=True)
            logits_KV = np.concatenate((logits_KV, more_KV))
        found, highest = target_scores(logits_KV, range(len(option)), option) if option else (np.zeros(0), np.ones(0))
        log_probs.append(float(found.sum()))
        are_greedy.append(bool(highest.all()))
    return OptionScores(log_probs, are_greedy)
