"""A comparison of runs as a table, as a page, and as the files of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.html import escaped, inline, render, section
from stentor.report.overlay import plot_overlay, write_overlay
from stentor.report.runs import ComparedRun, comparability, differing_settings

PAGE_NAME = "compare.html"
Row = tuple[str, list[str]]


def result_rows(runs: Sequence[ComparedRun]) -> Iterator[Row]:
    """Yield what came of the runs, a cell for each; `-` stands for what is not known."""
    values = [run.to_dict() for run in runs]
    for label, name, form in (
        ("parameters", "num_parameters", "{:,}"),
        ("steps", "step", "{:,}"),
        ("tokens", "tokens_seen", "{:,}"),
        ("best held-out loss, nats per token", "best_loss_nats", "{:.4f}"),
        ("best bits per byte", "best_bits_per_byte", "{:.4f}"),
        ("... at step", "best_step", "{:,}"),
        ("last held-out loss", "last_loss_nats", "{:.4f}"),
        ("last bits per byte", "last_bits_per_byte", "{:.4f}"),
        ("tokens per second, median", "tokens_per_second", "{:,.0f}"),
        ("MFU", "mfu", "{:.1%}"),
        ("seconds of updates", "seconds", "{:,.1f}"),
    ):
        yield label, ["-" if value[name] is None else form.format(value[name]) for value in values]


def setting_rows(runs: Sequence[ComparedRun]) -> Iterator[Row]:
    """Yield the settings in which the runs differ, a cell for each; `-` stands for one that a run does not have."""
    for key, values in differing_settings(runs).items():
        yield key, ["-" if value is None else _shown(value) for value in values]


def write_comparison(runs: Sequence[ComparedRun], path: Path) -> list[Path]:
    """Write a comparison: a picture (.svg, .png), a page (.html), or a folder with all three; return what was written.

    Raises:
        UserError: the name has an ending that stands for none of them, or the place cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    kind = kind_of(path)
    if kind == "folder":
        write_file(page := path / PAGE_NAME, render_comparison(runs))
        return [page, *write_overlay(runs, path)]
    if kind == "html":
        write_file(path, render_comparison(runs))
    else:
        write_file(path, plot_overlay(runs, file_format="svg" if kind == "svg" else "png"))
    return [path]


def kind_of(path: Path) -> str:
    """Return what a name asks for: `svg`, `png`, `html` or `folder`.

    Raises:
        UserError: it is the name of a file of another kind.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix in ("svg", "png", "html"):
        return suffix
    if suffix and not path.is_dir():
        raise UserError(
            f"{path} is no name for a comparison", fix="use a folder, or a name that ends in .svg, .png or .html"
        )
    return "folder"


def render_comparison(runs: Sequence[ComparedRun]) -> str:
    """Return a comparison as one self-contained HTML page.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    label = "Held-out loss and bits per byte by tokens and by seconds, learning rate and gradient norm of the runs"
    picture = f'<figure class="card scrolls wide" tabindex="0">{inline(plot_overlay(runs), "runs", label)}</figure>'
    names = [run.name for run in runs]
    settings = list(setting_rows(runs))
    return render(
        kind="Stentor comparison of runs",
        name=", ".join(names),
        description="",
        result=_result(runs),
        sections=(
            section("Curves", picture),
            section("Results", _table(names, result_rows(runs))),
            section("Settings that differ", _table(names, settings)) if settings else "",
        ),
    )


def _result(runs: Sequence[ComparedRun]) -> str:
    """Say which run is the best where all can be compared, else why they cannot."""
    if sentences := comparability(runs):
        return "<br>".join(f"{escaped(sentence)}." for sentence in sentences)
    evaluated = [run for run in runs if run.best]
    if not evaluated:
        return "No run was evaluated yet."
    best = min(evaluated, key=lambda run: run.best["bits_per_byte"])
    return (
        f"<strong>{best.best['bits_per_byte']:.4f} bits per byte</strong> at best, by <bdi>{escaped(best.name)}</bdi>."
    )


def _table(names: Sequence[str], rows: Iterator[Row] | list[Row]) -> str:
    head = "".join(f'<th scope="col"><bdi>{escaped(name)}</bdi></th>' for name in names)
    body = "\n".join(
        f'<tr><th scope="row">{escaped(label)}</th>{"".join(f"<td>{escaped(cell)}</td>" for cell in cells)}</tr>'
        for label, cells in rows
    )
    table = f'<table class="rows compared"><thead><tr><td></td>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
    return f'<div class="card scrolls" tabindex="0">{table}</div>'


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
