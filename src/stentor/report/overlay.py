"""Runs in one picture: loss, bits per byte, learning rate and gradient norm, against tokens and against time."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stentor.report.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Format,
    count_axis,
    drawn,
    dress,
    scale_by_ratio,
    write_both,
)
from stentor.report.run_log import series
from stentor.report.runs import ComparedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Style = tuple[str, Literal["-", "--", ":"]]
_LINES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
_STYLES: list[_Style] = [(colour, line) for line in _LINES for colour in (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)]
_NAMES_A_LINE = 4
_AXES = {"tokens_seen": "tokens", "seconds": "seconds of updates"}


def write_overlay(runs: Sequence[ComparedRun], folder: Path) -> list[Path]:
    """Write `compare.svg` and `compare.png` into a folder, each whole or not at all, and return their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return write_both(folder, "compare", lambda file_format: plot_overlay(runs, file_format=file_format))


def plot_overlay(runs: Sequence[ComparedRun], *, file_format: Format = "svg") -> bytes:
    """Draw runs over each other, each in a colour of its own; equal runs give equal bytes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    height = 6.2 + 0.25 * -(-len(runs) // _NAMES_A_LINE)
    return drawn((13.5, height), partial(_draw, runs), file_format)


def _draw(runs: Sequence[ComparedRun], figure: Figure) -> None:
    panels = figure.subplots(2, 3)
    for row, along in zip(panels, _AXES, strict=True):
        _held_out(row[0], runs, "loss_nats", "Held-out loss, nats per token", along)
        _held_out(row[1], runs, "bits_per_byte", "Held-out bits per byte", along)
    _updates(panels[0][2], runs, "lr", "Learning rate")
    panels[0][2].set_ylim(bottom=0)
    _updates(panels[1][2], runs, "grad_norm", "Gradient norm, before clipping")
    if any(record.get("grad_norm") for run in runs for record in run.log.train):
        scale_by_ratio(panels[1][2])
    _name_runs(figure, runs)


def _name_runs(figure: Figure, runs: Sequence[ComparedRun]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linestyle=line, linewidth=2) for colour, line in _styles(len(runs))]
    names = [f"\u2009{run.name}".replace("$", r"\$") for run in runs]  # as it is: no formulas, and nothing hidden
    columns = min(len(runs), _NAMES_A_LINE)
    figure.legend(lines, names, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK)


def _styles(count: int) -> list[_Style]:
    return list(itertools.islice(itertools.cycle(_STYLES), count))


def _held_out(axes: Axes, runs: Sequence[ComparedRun], quantity: str, title: str, along: str) -> None:
    """Draw an evaluated quantity of all runs, as high as tells them apart: what the first steps lose hides the rest."""
    dress(axes, title)
    count_axis(axes, _AXES[along])
    for index, (run, (colour, line)) in enumerate(zip(runs, _styles(len(runs)), strict=True)):
        places = _places(run, along)
        evaluations = [record for record in run.log.evaluations if record["step"] in places]
        axes.plot(
            [places[record["step"]] for record in evaluations],
            [record[quantity] for record in evaluations],
            color=colour,
            linestyle=line,
            linewidth=1.8,
            marker="o" if len(evaluations) <= 12 else None,
            markersize=3,
            gid=f"{quantity}-{along}-{index + 1}",
        )
    values = [record[quantity] for run in runs for record in run.log.evaluations]
    if values and (spread := statistics.median(values) - min(values)):
        axes.set_ylim(min(values) - 0.3 * spread, min(max(values) + 0.3 * spread, min(values) + 5 * spread))


def _places(run: ComparedRun, along: str) -> dict[int, float]:
    """Return how many tokens, or seconds of updates, each step of a run came after."""
    if along == "tokens_seen":
        return {record["step"]: record["tokens_seen"] for record in (*run.log.train, *run.log.evaluations)}
    passed = itertools.accumulate(record.get("seconds") or 0.0 for record in run.log.train)
    return dict(zip((record["step"] for record in run.log.train), passed, strict=True))


def _updates(axes: Axes, runs: Sequence[ComparedRun], quantity: str, title: str) -> None:
    dress(axes, title)
    count_axis(axes, "tokens")
    for index, (run, (colour, line)) in enumerate(zip(runs, _styles(len(runs)), strict=True)):
        points = series(run.log.train, quantity, along="tokens_seen")
        axes.plot(*points, color=colour, linestyle=line, linewidth=1.2, alpha=0.85, gid=f"{quantity}-{index + 1}")
