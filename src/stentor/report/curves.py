"""A run's log becomes curves: validation loss and perplexity against the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stentor.report.drawing import (
    BLUE,
    CARD,
    INK,
    ORANGE,
    Format,
    count_axis,
    drawn,
    dress,
    scale_by_ratio,
    write_both,
)
from stentor.report.run_log import RunLog, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quantity = Literal["loss_nats", "perplexity", "bits_per_byte"]

VALIDATION, TRAIN = BLUE, ORANGE
"""The page gives each its colour at night."""

_TITLES = {"loss_nats": "Loss in nats per token", "perplexity": "Perplexity", "bits_per_byte": "Bits per byte"}
_HIGHEST = 1e9
"""A run that diverges leaves the panel here; its axis could not hold the numbers."""


def write_curves(log: RunLog, folder: Path) -> list[Path]:
    """Write `curves.svg` and `curves.png` into a folder, each whole or not at all, and return their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return write_both(folder, "curves", lambda file_format: plot_curves(log, file_format=file_format))


def plot_curves(
    log: RunLog,
    *,
    quantities: Sequence[Quantity] = ("loss_nats", "perplexity"),
    file_format: Format = "svg",
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
        for panel, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            draw_quantity(panel, log, quantity)

    return drawn((4.6 * len(quantities), 3.2), draw, file_format)


def draw_quantity(axes: Axes, log: RunLog, quantity: Quantity) -> None:
    """Draw one quantity of the evaluations into a panel, the best one marked, and of the updates where they have it."""
    dress(axes, _TITLES[quantity])
    count_axis(axes, "optimizer step")
    if quantity == "perplexity":  # it falls by orders of magnitude; on a linear axis only the first step shows
        scale_by_ratio(axes)
    if quantity != "bits_per_byte":  # nobody counted the bytes of a step
        _draw_updates(axes, log, quantity)
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
        digits = 3 if quantity == "bits_per_byte" else 2
        text = f"best {height:,.{digits}f} at step {best['step']:,}"
        axes.plot([best["step"]], [height], "o", markersize=10, markerfacecolor="none", color=INK, label=text)
    if log.train or evaluations:
        axes.legend(loc="upper right", fontsize="small", facecolor=CARD, edgecolor=CARD, framealpha=0.7, labelcolor=INK)


def _draw_updates(axes: Axes, log: RunLog, quantity: Quantity) -> None:
    steps, losses = series(log.train, "loss_nats")
    heights = losses if quantity == "loss_nats" else [min(math.exp(min(loss, 700.0)), _HIGHEST) for loss in losses]
    axes.plot(steps, heights, color=TRAIN, linewidth=1, alpha=0.55, label="training", gid=f"{quantity}-training")
