"""A run's course in phases: where the loss falls fast, where slowly, where the best model is, and what came after."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stentor.report.run_log import Record, RunLog

FAST, MOST = 0.8, 0.95
"""Shares of the whole fall of the smoothed training loss that end the first and the second phase."""
SMOOTHED_OVER = 100
"""The loss is averaged over this part of all logged updates, and over three of them at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run.

    Attributes:
        name: what happens in it.
        first_step: of its updates.
        last_step: of its updates.
        num_tokens: seen in it.
        loss_nats: of training, smoothed, at its beginning and its end.
        held_out_nats: by the last evaluation up to its beginning and to its end; None where there was none.
        lr: at its beginning and its end; None where the log does not say.
        grad_norm: median and largest, before clipping; None where the log does not say.
    """

    name: str
    first_step: int
    last_step: int
    num_tokens: int
    loss_nats: tuple[float, float]
    held_out_nats: tuple[float | None, float | None]
    lr: tuple[float, float] | None
    grad_norm: tuple[float, float] | None


def phases(log: RunLog) -> list[Phase]:
    """Return a run's phases in order, those without an update left out; none of a run too short to tell them apart.

    The first ends where the smoothed training loss has made 80% of its whole fall, the second at 95%, the third with
    the best evaluation (or with the run), the last with the run.
    """
    updates = log.train
    width = max(3, len(updates) // SMOOTHED_OVER)
    if len(updates) < 4 * width:
        return []
    smooth = list(_smoothed([record["loss_nats"] for record in updates], width))
    top, bottom = smooth[0], min(smooth)
    if bottom >= top:
        return []
    ends = [next(i for i, loss in enumerate(smooth) if top - loss >= share * (top - bottom)) for share in (FAST, MOST)]
    best = _place(updates, log.best_evaluation["step"]) if log.evaluations else len(updates) - 1
    borders = [-1, *ends, max(best, ends[-1]), len(updates) - 1]
    names = ("fast fall", "slow fall", "late", "after the best")
    found = zip(names, pairwise(borders), strict=True)
    return [_phase(name, log, smooth, first + 1, last) for name, (first, last) in found if last > first]


def _phase(name: str, log: RunLog, smooth: Sequence[float], first: int, last: int) -> Phase:
    records = log.train[first : last + 1]
    rates = [record["lr"] for record in records if isinstance(record.get("lr"), int | float)]
    norms = [record["grad_norm"] for record in records if isinstance(record.get("grad_norm"), int | float)]
    before = log.train[first - 1] if first else None
    return Phase(
        name=name,
        first_step=records[0]["step"],
        last_step=records[-1]["step"],
        num_tokens=records[-1]["tokens_seen"] - (before["tokens_seen"] if before else 0),
        loss_nats=(smooth[first], smooth[last]),
        held_out_nats=(_held_out(log, before["step"] if before else 0), _held_out(log, records[-1]["step"])),
        lr=(rates[0], rates[-1]) if rates else None,
        grad_norm=(statistics.median(norms), max(norms)) if norms else None,
    )


def _held_out(log: RunLog, step: int) -> float | None:
    losses = [record["loss_nats"] for record in log.evaluations if record["step"] <= step]
    return losses[-1] if losses else None


def _place(updates: Sequence[Record], step: int) -> int:
    """Return which record is the last one up to a step; the first where all are later."""
    return max((place for place, record in enumerate(updates) if record["step"] <= step), default=0)


def _smoothed(values: Sequence[float], width: int) -> Iterator[float]:
    """Yield the mean of each value and those before it, as many as `width` or as there are."""
    total = 0.0
    for place, value in enumerate(values):
        total += value
        if place >= width:
            total -= values[place - width]
        yield total / min(place + 1, width)
