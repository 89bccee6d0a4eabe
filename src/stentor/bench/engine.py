"""What a child process needs of an engine, and how its work is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from stentor.bench.setting import Work

Clock = Callable[[], float]
"""Seconds since some moment."""


class Engine(Protocol):
    """A model that is loaded and ready.

    Attributes:
        version: of the engine, and of its build where it says so.
    """

    version: str

    def prefill(self, token_ids: Sequence[int]) -> float:
        """Read a text from nothing and choose the likeliest token after it; return the seconds that took."""
        ...

    def decode(self, token_ids: Sequence[int], num_new_tokens: int) -> float:
        """Make tokens after a text, each from the one before; return the seconds of one, without the text's."""
        ...


class SteppedEngine:
    """An engine of which a step is a call: the clock is read around it.

    Args:
        read: reads tokens after those before a position, and returns the likeliest token after the last of them.
        version: see `Engine`.
        clock: tells the time.
    """

    def __init__(
        self, read: Callable[[Sequence[int], int], int], *, version: str, clock: Clock = time.perf_counter
    ) -> None:
        self.version = version
        self._read = read
        self._clock = clock

    def prefill(self, token_ids: Sequence[int]) -> float:
        """Return the seconds; see `Engine`."""
        started = self._clock()
        self._read(token_ids, 0)
        return self._clock() - started

    def decode(self, token_ids: Sequence[int], num_new_tokens: int) -> float:
        """Return the seconds of a token; see `Engine`."""
        token_id = self._read(token_ids, 0)
        started = self._clock()
        for position in range(len(token_ids), len(token_ids) + num_new_tokens):
            token_id = self._read((token_id,), position)
        return (self._clock() - started) / num_new_tokens


def timings(engine: Engine, work: Work, token_ids: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Return the median seconds of each prompt, and of a token at each position; the first of each is not counted."""
    prefill = {
        length: _median(work.repeats, lambda length=length: engine.prefill(token_ids[:length]))
        for length in work.prompt_lengths
    }
    decode = {
        position: _median(
            work.repeats, lambda position=position: engine.decode(token_ids[:position], work.num_new_tokens)
        )
        for position in work.positions
    }
    return prefill, decode


def _median(repeats: int, seconds: Callable[[], float]) -> float:
    seconds()
    return statistics.median(seconds() for _ in range(repeats))
