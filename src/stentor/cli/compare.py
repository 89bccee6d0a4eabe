"""stentor compare: what came of runs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stentor.cli.output import JsonFlag, answer, columns, short_names, talk


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, finished or not.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Draw them: into a .svg, .png or .html, or all three into a folder."),
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Lay runs side by side: losses, bits per byte, speed, and the settings in which they differ.

    Example: stentor compare runs/tiny runs/hot --output comparison
    """
    from stentor.report.comparison import kind_of, result_rows, setting_rows, write_comparison
    from stentor.report.runs import comparability, differing_settings, open_run

    if output is not None:
        kind_of(output)  # a wrong name is refused before the work
    names = short_names([str(run) for run in runs])
    opened = [open_run(name, run) for name, run in zip(names, runs, strict=True)]
    notes, settings = comparability(opened), list(setting_rows(opened))
    if output is not None:
        for path in write_comparison(opened, output):
            talk(f"wrote {path}")
    rows = [("", names), *result_rows(opened)]
    if settings:
        rows += [("", []), ("settings that differ", []), *((f"  {key}", cells) for key, cells in settings)]
    text = "\n".join([columns(rows), *(f"note: {note}" for note in notes)])
    value = {
        "runs": [run.to_dict() for run in opened],
        "settings": differing_settings(opened),
        "notes": notes,
    }
    answer(text, value, as_json=json_output)
