"""What all our pictures share: colours that everybody can tell apart, and bytes that depend on nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from stentor.artifacts import write_file
from stentor.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]
INK, MUTED, GRID, CARD = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
"""The colours of Okabe and Ito."""


def drawn(size: tuple[float, float], draw: Callable[[Figure], None], file_format: Format) -> bytes:
    """Return a picture; equal drawings give equal bytes, whatever style the user has set.

    Args:
        size: width and height in inches.
        draw: puts everything on the empty figure.
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
        figure = Figure(figsize=size, dpi=200, facecolor=CARD)
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
        draw(figure)
        buffer = io.BytesIO()
        unstamped = {"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[file_format]
        figure.savefig(buffer, format=file_format, metadata=dict.fromkeys(unstamped))
    return buffer.getvalue() if file_format == "svg" else _with_palette(buffer)


def _with_palette(png: io.BytesIO) -> bytes:
    """Return a picture with 256 colours: lines and letters need no more, and it is a third as large."""
    from PIL import Image  # matplotlib writes its own pictures with it

    packed = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256).save(packed, format="png", optimize=True)
    return packed.getvalue()


def dress(axes: Axes, title: str, *, grid: Literal["x", "y"] = "y") -> None:
    """Give a panel its title, a faint grid and no frame."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=10)
    axes.set_facecolor(CARD)
    axes.grid(visible=True, axis=grid, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def count_axis(axes: Axes, label: str) -> None:
    """Let a panel run along whole numbers from left to right: steps, tokens, seconds."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel(label, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def scale_by_ratio(axes: Axes) -> None:
    """Give a panel a logarithmic height, for what grows or falls by orders of magnitude, with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def write_both(folder: Path, name: str, plot: Callable[[Format], bytes]) -> list[Path]:
    """Write a picture as `NAME.svg` and `NAME.png` into a folder, each whole or not at all, and return their paths."""
    paths = []
    for file_format in get_args(Format):
        write_file(path := folder / f"{name}.{file_format}", plot(file_format))
        paths.append(path)
    return paths


def _short(value: float) -> str:
    """Write a count with its thousands apart, and from a million on in millions or billions."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:,.10g}{unit}"
    return f"{value:,.10g}"
