"""`stentor card`: a model gets the README.md that the Hugging Face Hub shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stentor.cli.output import ForceFlag, JsonFlag, answer


def card(
    model: Annotated[Path, typer.Argument(help="A run folder (its best checkpoint), or a model folder.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run that made a model folder: its recipe and its log.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What other commands measured, a JSON file each.", show_default="results/ in the folder"
        ),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What its maker knows: licence, texts, ...", show_default="card.toml in the folder"
        ),
    ] = None,
    force: ForceFlag = False,
    json_output: JsonFlag = False,
) -> None:
    """Write the model card of MODEL into its folder; every number in it comes from a file.

    Example: stentor card runs/tiny --results results --about card.toml
    """
    from stentor.report.card.write import write_card

    written = write_card(model, run_dir=run, results_dir=results, about_path=about, replace=force)
    missing = written.material.results.missing
    lines = [f"{written.path}", *(f"{picture}" for picture in written.pictures)]
    if missing:
        lines.append("not measured; each of these, with > DIR/NAME.json, fills a part:")
        lines += [f"  {kind}.json: {command}" for kind, command in missing.items()]
    value = {
        "path": str(written.path),
        "pictures": [str(picture) for picture in written.pictures],
        "left_out": list(written.left_out),
        "missing": missing,
    }
    answer("\n".join(lines), value, as_json=json_output)
