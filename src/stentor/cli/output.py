"""How commands speak: the answer on stdout, talk on stderr, `--json` as one object."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any

import typer

from stentor.errors import UserError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.")
]
ModelArgument = Annotated[
    str,
    typer.Argument(help="A model folder, a run folder (its best checkpoint), a .gguf file, stentor-12m or a Hub id."),
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]


def answer(text: str, value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a command's answer on stdout, for people or as JSON."""
    put(f"{json.dumps(value) if as_json else text}\n")


def put(text: str | bytes) -> None:
    """Write a piece of an answer on stdout at once.

    A reader that has had enough (`| head`) is no mistake: the command ends there, quietly.

    Raises:
        UserError: stdout takes no more, such as a file on a full disk.
    """
    try:
        typer.echo(text, nl=False)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again as it exits
        if isinstance(error, BrokenPipeError):
            raise typer.Exit from None
        raise UserError(
            f"the answer cannot be written to stdout ({error.strerror})", fix="check where stdout goes"
        ) from None


def talk(message: str) -> None:
    """Say something about progress on stderr; work goes on where nobody can hear it."""
    with contextlib.suppress(OSError):
        typer.echo(message, err=True)


def read_stdin() -> bytes:
    """Return all that comes on stdin.

    Raises:
        UserError: it is closed.
    """
    if sys.stdin is None:
        raise UserError("there is no stdin to read", fix="pipe the text in, or name a file")
    return typer.get_binary_stream("stdin").read()


def table(rows: Mapping[str, object]) -> str:
    """Lay out names and values in two aligned columns."""
    width = max(len(name) for name in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def columns(rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Lay out a table: a label and some cells in each row, as many as the first has or none, aligned."""
    first = max(len(label) for label, _ in rows)
    widths = [max(len(values[column]) for _, values in rows if values) for column in range(len(rows[0][1]))]
    lines = []
    for label, values in rows:
        cells = "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=False))
        lines.append(f"{label:<{first}}{cells}".rstrip())
    return "\n".join(lines)


def short_names(paths: Sequence[str]) -> list[str]:
    """Return a name for each folder, file or published vocabulary, short where that leaves them different.

    Args:
        paths: as the user gave them; one that comes twice is numbered.
    """
    shortened = [path.rpartition(":")[2] if path.startswith("tokenmonster:") else _last_part(path) for path in paths]
    names = [short if shortened.count(short) == 1 else path for short, path in zip(shortened, paths, strict=True)]
    return [f"{name} ({index + 1})" if names.count(name) > 1 else name for index, name in enumerate(names)]


def _last_part(path: str) -> str:
    parts = PurePath(path)
    if parts.name == "tokenizer.json" and parts.parent.name:
        return parts.parent.name
    return parts.name.removesuffix(".vocab") or path


def round_trip(num_lossy_documents: int, num_lost_bytes: int) -> str:
    """Say what a tokenizer does not give back of a text."""
    if not num_lossy_documents:
        return "every document comes back exactly"
    return (
        f"{num_lossy_documents:,} documents come back as other bytes (such as decomposed letters); "
        f"{num_lost_bytes:,} bytes have no token and vanish"
    )


def size(num_bytes: float) -> str:
    """Write a number of bytes for people: 1.5 MB."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 999.95:  # what would be rounded up to 1000.0 is written in the next unit
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.2f} GB"


def duration(seconds: float) -> str:
    """Write a time for people: 3 min 05 s."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
