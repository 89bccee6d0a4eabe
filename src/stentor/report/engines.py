"""A bench becomes a picture: the time of a token beside what memory allows, and how fast a prompt is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.artifacts import write_file
from stentor.bench.measure import Bench, Result
from stentor.bench.setting import ENGINES
from stentor.report.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, Format, drawn, dress
from stentor.report.tokenizers import plot_format

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(ENGINES, (BLUE, ORANGE, VERMILION, GREEN), strict=True))


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
    position = sorted(results[0].measured.decode_seconds)[len(results[0].measured.decode_seconds) // 2]
    length = max(results[0].measured.prefill_seconds)
    milliseconds = [1e3 * result.measured.decode_seconds[position] for result in results]
    _bars(tokens, f"Milliseconds a token, at position {position}", results, milliseconds, "{:.3f}")
    floors = [1e3 * result.floor_seconds(position) for result in results]
    tokens.plot(floors, range(len(results)), "|", color=PURPLE, markersize=13, markeredgewidth=2, gid="floor")
    tokens.set_xlabel("purple: the time in which as many threads only read the same bytes", color=INK, fontsize=9)
    names = [f"{result.setting.name}, {_threads(result.setting.num_threads)}" for result in results]
    tokens.set_yticks(range(len(results)), names, color=INK)
    rates = [length / result.measured.prefill_seconds[length] for result in results]
    _bars(prompts, f"Tokens a second of a prompt of {length:,}", results, rates, "{:,.0f}")
    prompts.set_yticks([])


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _bars(axes: Axes, title: str, results: list[Result], values: list[float], form: str) -> None:
    dress(axes, title, grid="x")
    colours = [_COLOURS[result.setting.engine] for result in results]
    bars = axes.barh(range(len(values)), values, height=0.6, color=colours)
    axes.bar_label(bars, [form.format(value) for value in values], padding=6, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(0.4 * min(values), 4 * max(values))
    axes.set_ylim(len(values) - 0.4, -0.6)  # the first one on top
    axes.set_xticks([])
    axes.minorticks_off()
    axes.grid(visible=False)
