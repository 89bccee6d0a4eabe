"""A comparison of tokenizers becomes a picture: what a larger vocabulary gives, beside what it costs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.drawing import BLUE, CARD, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, drawn, dress
from stentor.tokenizer.compare import BAND_NAMES, CONTEXT_TOKENS, HIDDEN_SIZE, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_format(path: Path) -> Literal["svg", "png"]:
    """Return the format that a picture's name asks for.

    Raises:
        UserError: it is none that is drawn here.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        return "png"
    if suffix == ".svg":
        return "svg"
    raise UserError(f"{path} is no name for a picture", fix="use a name that ends in .png or .svg")


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Draw a comparison into a file, whole or not at all.

    Raises:
        UserError: the name is that of no picture, or the place cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    write_file(path, plot_comparison(comparison, file_format=plot_format(path)))


def plot_comparison(comparison: Comparison, *, file_format: Literal["svg", "png"] = "svg") -> bytes:
    """Draw bytes per token, the embedding's parameters and tokens per word; equal comparisons give equal bytes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    height = 2.6 + 0.28 * max(2, len(comparison.reports))
    return drawn((13.0, height), partial(_draw, comparison), file_format)


def _draw(comparison: Comparison, figure: Figure) -> None:
    carried, cost, words = figure.subplots(1, 3, width_ratios=(1.0, 0.9, 1.2))
    reports = comparison.reports
    _bars(
        carried,
        f"Bytes per token (in {CONTEXT_TOKENS:,} of them)",
        [report.bytes_per_token for report in reports.values()],
        [f"{report.bytes_per_token:.2f}  ({report.context_bytes:,})" for report in reports.values()],
    )
    carried.set_yticks(range(len(reports)), [_plain(name) for name in reports], color=INK)
    _bars(
        cost,
        f"Embedding parameters, {HIDDEN_SIZE} wide",
        [report.embedding_parameters / 1e6 for report in reports.values()],
        [f"{report.embedding_parameters / 1e6:.2f} M" for report in reports.values()],
    )
    cost.set_yticks([])
    _fertility(words, comparison)


def _bars(axes: Axes, title: str, values: list[float], labels: list[str]) -> None:
    dress(axes, title, grid="x")
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(values))]
    bars = axes.barh(range(len(values)), values, height=0.6, color=colours)
    axes.bar_label(bars, labels, padding=4, color=INK)
    axes.set_xlim(0, 1.9 * max(values))
    axes.set_ylim(len(values) - 0.4, -0.6)  # the first one on top
    axes.set_xticks([])
    axes.grid(visible=False)


def _fertility(axes: Axes, comparison: Comparison) -> None:
    dress(axes, "Tokens per word, by rank of the word")
    total = max(1, sum(comparison.words_by_band))
    shares = [
        f"{name}\n{count / total:.0%} of all words"
        for name, count in zip(BAND_NAMES, comparison.words_by_band, strict=True)
    ]
    for index, (name, report) in enumerate(comparison.reports.items()):
        points = [(band, value) for band, value in enumerate(report.tokens_per_word) if value is not None]
        axes.plot(
            [band for band, _ in points],
            [value for _, value in points],
            color=COLOURS[index % len(COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            linewidth=2,
            label=_plain(name),
        )
    axes.set_xticks(range(len(shares)), shares, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.legend(loc="upper left", fontsize=8, facecolor=CARD, edgecolor=CARD, framealpha=1, labelcolor=INK)


def _plain(name: str) -> str:
    """Return a name as matplotlib draws it as it is: no formulas, and no label that it would hide."""
    return f"\u2009{name}".replace("$", r"\$")
