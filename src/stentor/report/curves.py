"""A run's log becomes curves: validation loss and perplexity against the optimizer step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.drawing import BLUE, CARD, INK, MUTED, ORANGE, drawn, dress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
Quantity = Literal["loss_nats", "perplexity"]

VALIDATION, TRAIN = BLUE, ORANGE
"""The page gives each its colour at night."""

_TITLES = {"loss_nats": "Loss in nats per token", "perplexity": "Perplexity"}
_MAX_TRAIN_POINTS = 400
_HIGHEST = 1e9
"""A run that diverges leaves the panel here; its axis could not hold the numbers."""
_NEEDED = {
    "train": ("step", "tokens_seen", "loss_nats"),
    "evaluation": ("step", "tokens_seen", "loss_nats", "perplexity", "bits_per_byte"),
}


@dataclass(frozen=True, slots=True)
class RunLog:
    """What a run wrote down, in the order of its steps; a step that was repeated after a crash is there once.

    Attributes:
        train: one record per logged update, with `step`, `tokens_seen` and `loss_nats` at least.
        evaluations: one record per evaluation on held-out text, with `perplexity` and `bits_per_byte` too.
    """

    train: tuple[Record, ...]
    evaluations: tuple[Record, ...]

    @property
    def best_evaluation(self) -> Record:
        """The evaluation with the lowest loss, the first of equals.

        Raises:
            UserError: the run was never evaluated.
        """
        if not self.evaluations:
            raise UserError("the run was not evaluated yet", fix="let it run until its first evaluation")
        return min(self.evaluations, key=lambda record: record["loss_nats"])


def read_log(path: Path) -> RunLog:
    """Read the `log.jsonl` of a run that has ended, runs, or was killed.

    A line that a crash cut short, or that lacks a number, is passed over; so are kinds of records not known here.

    Raises:
        UserError: there is no such file, or nothing in it is a record of training.
    """
    by_step: dict[str, dict[int, Record]] = {kind: {} for kind in _NEEDED}
    try:
        with path.open("rb") as file:
            for record in _records(file):
                by_step[record["kind"]][record["step"]] = record
    except OSError as error:
        raise UserError(f"the log {path} cannot be read ({error.strerror})", fix="pass a run folder's log") from None
    if not any(by_step.values()):
        raise UserError(f"{path} holds no record of a run", fix="pass the log.jsonl of a run that has begun")
    train, evaluations = ([found[step] for step in sorted(found)] for found in by_step.values())
    return RunLog(tuple(train), tuple(evaluations))


def write_curves(log: RunLog, folder: Path) -> list[Path]:
    """Write `curves.svg` and `curves.png` into a folder, each whole or not at all, and return their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    paths = []
    for file_format in ("svg", "png"):
        path = folder / f"curves.{file_format}"
        write_file(path, plot_curves(log, file_format=file_format))
        paths.append(path)
    return paths


def plot_curves(
    log: RunLog,
    *,
    quantities: Sequence[Quantity] = ("loss_nats", "perplexity"),
    file_format: Literal["svg", "png"] = "svg",
) -> bytes:
    """Draw one panel per quantity, side by side; equal logs give equal bytes.

    Args:
        log: the run.
        quantities: what to draw against the step.
        file_format: `svg`, whose text stays text, or `png` at twice the resolution of a screen.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """

    def draw(figure: Figure) -> None:
        for panel, quantity in zip(_panels(figure, len(quantities)), quantities, strict=True):
            _draw(panel, log, quantity)

    return drawn((4.6 * len(quantities), 3.2), draw, file_format)


def _records(lines: Iterable[bytes]) -> Iterable[Record]:
    for line in lines:
        try:
            record = json.loads(line)
            needed = _NEEDED[record["kind"]]
            if type(record["step"]) is int and all(math.isfinite(record[name]) for name in needed):
                yield record
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue


def _panels(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _draw(axes: Axes, log: RunLog, quantity: Quantity) -> None:
    _dress(axes, quantity)
    steps, losses = _thinned(log.train)
    faint = losses if quantity == "loss_nats" else [min(math.exp(min(loss, 700.0)), _HIGHEST) for loss in losses]
    axes.plot(steps, faint, color=TRAIN, linewidth=1, alpha=0.55, label="training", gid=f"{quantity}-training")
    evaluations = log.evaluations
    axes.plot(
        [record["step"] for record in evaluations],
        [min(record[quantity], _HIGHEST) for record in evaluations],
        color=VALIDATION,
        linewidth=2,
        marker="o" if len(evaluations) <= 60 else None,
        markersize=3.5,
        label="held out",
        gid=f"{quantity}-held-out",
    )
    if evaluations:
        best = log.best_evaluation
        height = min(best[quantity], _HIGHEST)
        text = f"best {height:,.2f} at step {best['step']:,}"
        axes.plot([best["step"]], [height], "o", markersize=10, markerfacecolor="none", color=INK, label=text)
    if log.train or evaluations:
        axes.legend(loc="upper right", facecolor=CARD, edgecolor=CARD, framealpha=1, labelcolor=INK)


def _dress(axes: Axes, quantity: Quantity) -> None:
    """Set everything of a panel that does not depend on the run."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    dress(axes, _TITLES[quantity])
    axes.set_xlabel("optimizer step", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if quantity == "perplexity":  # it falls by orders of magnitude; on a linear axis only the first step shows
        _scale_by_ratio(axes)


def _scale_by_ratio(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _thinned(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Average neighbouring updates until few enough points are left to draw."""
    width = -(-len(records) // _MAX_TRAIN_POINTS) or 1
    groups = [records[start : start + width] for start in range(0, len(records), width)]
    return [_mean(group, "step") for group in groups], [_mean(group, "loss_nats") for group in groups]


def _mean(records: Sequence[Record], name: str) -> float:
    return math.fsum(record[name] for record in records) / len(records)
