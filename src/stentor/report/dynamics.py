"""How a run went, in one picture: rates, gradients, speed, and the scale of weights and activations in each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stentor.report.curves import draw_quantity
from stentor.report.drawing import (
    BLUE,
    CARD,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    Format,
    count_axis,
    drawn,
    dress,
    scale_by_ratio,
    write_both,
)
from stentor.report.run_log import Record, RunLog, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_LAYERS = (BLUE, PURPLE, ORANGE)
"""From the first layer to the last, darker to lighter, so that the order shows without the hues too."""
_MATRICES = {
    "qkv": "queries, keys, values",
    "attention_out": "attention's output",
    "gate_up": "gate and up",
    "down": "down",
}
_GAINS = {
    "attention_norm": "attention's norm",
    "mlp_norm": "MLP's norm",
    "q_norm": "queries' norm",
    "k_norm": "keys' norm",
}
_ACTIVATIONS = {"attention": "attention's output", "mlp": "MLP's output", "residual": "residual stream"}
_Panel = Callable[["Axes"], None]


def write_dynamics(log: RunLog, folder: Path) -> list[Path]:
    """Write `dynamics.svg` and `dynamics.png` into a folder, each whole or not at all, and return their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return write_both(folder, "dynamics", lambda file_format: plot_dynamics(log, file_format=file_format))


def plot_dynamics(log: RunLog, *, file_format: Format = "svg") -> bytes:
    """Draw all that a log tells of a run's course; equal logs give equal bytes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    panels = list(_panels(log))
    rows = -(-len(panels) // _COLUMNS)
    return drawn((3.6 * _COLUMNS, 2.7 * rows), partial(_draw, log, panels, rows), file_format)


def layer_colours(num_layers: int) -> list[str]:
    """Return a colour for each layer, as hexadecimal digits."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    colours = LinearSegmentedColormap.from_list("layers", _LAYERS)
    return [to_hex(colours(layer / max(1, num_layers - 1))) for layer in range(num_layers)]


def _panels(log: RunLog) -> Iterator[_Panel]:
    """Yield the panels row by row: updates, matrices, gains, activations; what belongs to no layer fills a row."""
    yield lambda axes: draw_quantity(axes, log, "bits_per_byte")
    yield lambda axes: _learning_rate(axes, log)
    yield lambda axes: _gradient_norm(axes, log)
    yield lambda axes: _throughput(axes, log)
    if not log.scales:
        return

    def layers(group: str, name: str, title: str) -> _Panel:
        return partial(_by_layer, scales=log.scales, group=group, name=name, title=title)

    for name, title in _MATRICES.items():
        yield layers("weights", name, f"Weight RMS: {title}")
    gains = {name: title for name, title in _GAINS.items() if name in log.scales[-1]["weights"]}
    for name, title in gains.items():
        yield layers("weights", name, f"Gain RMS: {title}")
    whole: list[_Panel] = [partial(_tables, scales=log.scales), partial(_last_norm, scales=log.scales)]
    if len(gains) < _COLUMNS:
        yield from whole
    for name, title in _ACTIVATIONS.items():
        yield layers("activations", name, f"Activation RMS: {title}")
    yield partial(_largest_logit, scales=log.scales)
    if len(gains) == _COLUMNS:
        yield from whole


def _draw(log: RunLog, panels: Sequence[_Panel], rows: int, figure: Figure) -> None:
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        panel(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for place, axes in enumerate(grid.flat):
        if place + _COLUMNS < len(panels):
            axes.set_xlabel("")  # the one below says it
    if log.scales:
        _layer_key(figure, list(grid[1:].flat), len(log.scales[-1]["weights"]["qkv"]))


def _layer_key(figure: Figure, beside: list[Axes], num_layers: int) -> None:
    """Add the colours of the layers, from the first at the bottom to the last on top."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    edges = [layer + 0.5 for layer in range(num_layers + 1)]
    colours = ScalarMappable(BoundaryNorm(edges, num_layers), ListedColormap(layer_colours(num_layers)))
    every = -(-num_layers // 12)
    ticks = list(range(1, num_layers + 1, every))
    bar = figure.colorbar(colours, ax=beside, location="right", aspect=50, pad=0.015, ticks=ticks, drawedges=False)
    bar.set_label("layer", color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", colors=MUTED, length=0)


def _start_panel(axes: Axes, title: str) -> None:
    dress(axes, title)
    count_axis(axes, "optimizer step")


def _along_updates(axes: Axes, log: RunLog, name: str, title: str, colour: str) -> None:
    _start_panel(axes, title)
    axes.plot(*series(log.train, name), color=colour, linewidth=1.5, gid=f"{name}-line")


def _learning_rate(axes: Axes, log: RunLog) -> None:
    _along_updates(axes, log, "lr", "Learning rate", BLUE)
    axes.set_ylim(bottom=0)


def _gradient_norm(axes: Axes, log: RunLog) -> None:
    _along_updates(axes, log, "grad_norm", "Gradient norm, before clipping", GREEN)
    if any(record.get("grad_norm") for record in log.train):
        scale_by_ratio(axes)


def _throughput(axes: Axes, log: RunLog) -> None:
    """Draw tokens a second, and on the right what share of the device's peak they take, where that is known."""
    _along_updates(axes, log, "tokens_per_second", "Tokens per second", SKY)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    if per_rate := log.utilisation_per_rate:
        percent = 100 * per_rate
        share = axes.secondary_yaxis(
            "right", functions=(partial(np.multiply, percent), partial(np.multiply, 1 / percent))
        )
        share.set_ylabel("MFU, %", color=MUTED)
        share.tick_params(colors=MUTED, length=0)
        share.spines["right"].set_visible(False)


def _by_layer(axes: Axes, *, scales: Sequence[Record], group: str, name: str, title: str) -> None:
    """Draw a line for each layer; what it makes of its input differs by orders of magnitude, its weights do not."""
    _start_panel(axes, title)
    steps = [record["step"] for record in scales]
    by_layer = list(zip(*(record[group][name] for record in scales), strict=True))
    for layer, (values, colour) in enumerate(zip(by_layer, layer_colours(len(by_layer)), strict=True)):
        axes.plot(
            steps, _gaps(values), color=colour, linewidth=1.5, gid=f"{group}-{name}-{layer + 1}", **_marker(steps)
        )
    if group == "activations" and any(value for values in by_layer for value in values):
        scale_by_ratio(axes)


def _tables(axes: Axes, *, scales: Sequence[Record]) -> None:
    values = {"embedding": "embedding", "head": "head"}
    there = {label: name for label, name in values.items() if name in scales[-1]["weights"]}
    _of_the_whole(axes, scales=scales, values=there, title=f"Weight RMS: {' and '.join(there)}")


def _last_norm(axes: Axes, *, scales: Sequence[Record]) -> None:
    _of_the_whole(axes, scales=scales, values={"last norm": "final_norm"}, title="Gain RMS: last norm")


def _of_the_whole(axes: Axes, *, scales: Sequence[Record], values: dict[str, str], title: str) -> None:
    """Draw weights that belong to no layer."""
    _start_panel(axes, title)
    steps = [record["step"] for record in scales]
    for (label, name), colour in zip(values.items(), (INK, MUTED), strict=False):
        heights = _gaps([record["weights"][name] for record in scales])
        axes.plot(steps, heights, color=colour, linewidth=1.5, label=label, gid=f"weights-{name}", **_marker(steps))
    if len(values) > 1:
        axes.legend(facecolor=CARD, edgecolor=CARD, framealpha=1, labelcolor=INK)


def _largest_logit(axes: Axes, *, scales: Sequence[Record]) -> None:
    _start_panel(axes, "Largest logit, without its sign")
    steps = [record["step"] for record in scales]
    heights = _gaps([record["max_logit"] for record in scales])
    axes.plot(steps, heights, color=INK, linewidth=1.5, gid="max-logit", **_marker(steps))


def _gaps(values: Sequence[float | None]) -> list[float]:
    """Leave a gap in a line where a value was no number."""
    return [math.nan if value is None else value for value in values]


def _marker(steps: Sequence[int]) -> dict[str, Any]:
    """Show points where there are so few that a line alone would hide them."""
    return {"marker": "o", "markersize": 2.5} if len(steps) <= 12 else {}
