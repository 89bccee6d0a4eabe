"""Only an engine's own work is timed, each step once; the first of each kind is not counted."""

from __future__ import annotations

from stentor.bench.engine import SteppedEngine, timings
from stentor.bench.setting import Work


def stepped(clock, steps):
    """Return an engine that takes a second for each token it reads, and notes what it was given."""

    def read(token_ids, start):
        steps.append((list(token_ids), start))
        clock.now += len(token_ids)
        return 100 + len(steps)

    return SteppedEngine(read, version="1", clock=clock)


def test_a_prompt_is_read_from_nothing(clock):
    steps = []
    assert stepped(clock, steps).prefill([7, 8, 9]) == 3
    assert steps == [([7, 8, 9], 0)]


def test_each_token_is_made_from_the_one_before_and_the_prompt_is_not_timed(clock):
    steps = []
    assert stepped(clock, steps).decode([7, 8, 9], 4) == 1
    assert steps == [([7, 8, 9], 0), ([101], 3), ([102], 4), ([103], 5), ([104], 6)]


class Slowing:
    """An engine whose first time is slow and whose later ones take 3, 1, 2 times the tokens."""

    version = "1"

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def _seconds(self, kind: tuple[int, int]) -> float:
        self.asked.append(kind)
        return [1000.0, 3.0, 1.0, 2.0][self.asked.count(kind) - 1]

    def prefill(self, token_ids):
        return self._seconds((len(token_ids), 0)) * len(token_ids)

    def decode(self, token_ids, num_new_tokens):
        return self._seconds((len(token_ids), num_new_tokens))


def test_medians_without_the_first():
    engine, work = Slowing(), Work(prompt_lengths=(2, 5), positions=(3, 6), num_new_tokens=4, repeats=3)
    assert timings(engine, work, list(range(20))) == ({2: 4.0, 5: 10.0}, {3: 2.0, 6: 2.0})
    assert engine.asked == [kind for kind in [(2, 0), (5, 0), (3, 4), (6, 4)] for _ in range(4)]
