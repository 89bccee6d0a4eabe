"""A bench becomes a picture: the time of a token beside what memory allows, and how fast a prompt is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.artifacts import write_file
from stentor.bench.measure import Bench, Result
from stentor.bench.setting import ENGINES
from stentor.report.drawing import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILION, Format, drawn, dress
from stentor.report.tokenizers import plot_format

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(ENGINES, (BLUE, ORANGE, VERMILION, GREEN, PURPLE), strict=True))


def write_engines(bench: Bench, path: Path) -> None:
    """Draw a bench into a file, whole or not at all.

    Raises:
        UserError: the name is that of no picture, or the place cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    write_file(path, plot_engines(bench, file_format=plot_format(path)))


def plot_engines(bench: Bench, *, file_format: Format = "svg") -> bytes:
    """Draw the settings of a bench below each other; equal benches give equal bytes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    height = 1.6 + 0.3 * max(2, len(bench.results))
    return drawn((14.0, height), partial(_draw, bench.results), file_format)


def _draw(results: list[Result], figure: Figure) -> None:
    tokens, prompts = figure.subplots(1, 2, width_ratios=(1.0, 0.8))
    if not results:
        return
    positions = list(results[0].measured.decode_seconds)
    position, length = positions[len(positions) // 2], max(results[0].measured.prefill_seconds)
    milliseconds = [1e3 * result.measured.decode_seconds[position] for result in results]
    floors = [1e3 * result.floor_seconds(position) for result in results]
    rates = [length / result.measured.prefill_seconds[length] for result in results]
    _points(tokens, f"Milliseconds a token, at position {position:,}", results, milliseconds, "{:.3f}")
    tokens.plot(floors, range(len(results)), "|", color=MUTED, markersize=12, markeredgewidth=1.5, gid="floor")
    tokens.set_xlim(0.5 * min(milliseconds + floors), 4 * max(milliseconds))
    tokens.set_xlabel("grey: as many threads only read the same bytes", color=MUTED)
    names = [f"{result.setting.name}, {_threads(result.setting.num_threads)}" for result in results]
    tokens.set_yticks(range(len(results)), names, color=INK)
    _points(prompts, f"Tokens a second of a prompt of {length:,}", results, rates, "{:,.0f}")
    prompts.set_xlim(0.5 * min(rates), 4 * max(rates))
    prompts.set_yticks(range(len(results)), [""] * len(results))


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _points(axes: Axes, title: str, results: list[Result], values: list[float], form: str) -> None:
    """Draw a point for each result; lengths would mean nothing, since ratios are what is to be seen."""
    dress(axes, title, grid="y")
    axes.set_xscale("log")
    colours = [_COLOURS[result.setting.engine] for result in results]
    axes.scatter(values, range(len(values)), s=64, c=colours, zorder=3, gid="measured")
    for place, value in enumerate(values):
        axes.annotate(
            form.format(value), (value, place), xytext=(9, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_ylim(len(values) - 0.4, -0.6)  # the first one on top
    axes.set_xticks([])
    axes.minorticks_off()
