"""A run's log becomes curves: validation loss and perplexity against the optimizer step."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stentor.artifacts import write_file
from stentor.errors import UserError, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
Quantity = Literal["loss_nats", "perplexity"]

INK, MUTED, GRID, CARD = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
VALIDATION, TRAIN = "#0072b2", "#e69f00"
"""Okabe and Ito's blue and orange, which all readers can tell apart; the page gives each its colour at night."""

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
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "report", needed_for="drawing curves") from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style must not change our bytes
        matplotlib.rc("font", family="sans-serif", size=10)
        matplotlib.rc("svg", hashsalt="stentor", fonttype="none")
        figure = Figure(figsize=(4.6 * len(quantities), 3.2), dpi=200, facecolor=CARD)
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
        for panel, quantity in zip(_panels(figure, len(quantities)), quantities, strict=True):
            _draw(panel, log, quantity)
        buffer = io.BytesIO()
        unstamped = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[file_format]
        figure.savefig(buffer, format=file_format, metadata=dict.fromkeys(unstamped))
    return buffer.getvalue()


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

    axes.set_title(_TITLES[quantity], loc="left", color=INK, fontsize=11, pad=10)
    axes.set_xlabel("optimizer step", color=MUTED)
    axes.set_facecolor(CARD)
    axes.grid(visible=True, axis="y", which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)
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
