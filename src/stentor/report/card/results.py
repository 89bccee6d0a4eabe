"""The folder of results: what other commands printed with `--json`, one file each, found by its name."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stentor.errors import UserError, nearest_name
from stentor.json_text import parse_json

RESULTS_NAME = "results"
EMISSIONS_NAME = "emissions.csv"
COMMANDS: Mapping[str, str] = {
    "evaluate": "stentor evaluate MODEL TEXT --by document --task blimp=FOLDER --json",
    "compare": "stentor compare MODEL transformers:OTHER --text TEXT --json",
    "contamination": "stentor contamination TEXT TRAINING --model MODEL --json",
    "memorization": "stentor memorization MODEL TRAINING --json",
    "generate": "stentor generate PROMPT --model MODEL --json",
    "quantization": "stentor export MODEL --compare TEXT --json",
    "bench": "stentor bench MODEL --json",
}
"""What fills `KIND.json`, or `KIND-NAME.json`, by kind."""
_NEEDED = {
    "evaluate": "model",
    "compare": "models",
    "contamination": "num_overlapping_documents",
    "memorization": "share_at_least",
    "generate": "settings",
    "quantization": "rows",
    "bench": "results",
}
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Found:
    """What a command printed.

    Attributes:
        kind: of the command, a key of `COMMANDS`.
        name: which of several; empty in a file that is named by its kind alone.
        path: the file.
        value: the JSON object in it.
    """

    kind: str
    name: str
    path: Path
    value: Mapping[str, Any]

    def read(self, function: Callable[[Mapping[str, Any]], _Made]) -> _Made:
        """Return what a function makes of the object.

        Raises:
            UserError: the object lacks what the function looks for, or has something else there.
        """
        try:
            return function(self.value)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            raise UserError(
                f"{self.path} is not what `{COMMANDS[self.kind]}` prints ({type(error).__name__}: {error})",
                fix="write it again with that command",
            ) from None


@dataclass(frozen=True, slots=True)
class Results:
    """All that was found.

    Attributes:
        found: in the order of their files' names.
        emissions: the rows of codecarbon's file, of texts.
        emissions_path: that file; None without one.
    """

    found: tuple[Found, ...] = ()
    emissions: tuple[Mapping[str, str], ...] = ()
    emissions_path: Path | None = field(default=None)

    def of(self, kind: str) -> list[Found]:
        """Return what commands of one kind printed."""
        return [found for found in self.found if found.kind == kind]

    def first(self, kind: str) -> Found | None:
        """Return the first of a kind; None where there is none."""
        return next(iter(self.of(kind)), None)

    @property
    def missing(self) -> dict[str, str]:
        """The commands that would fill what is not there, by kind."""
        return {kind: command for kind, command in COMMANDS.items() if not self.of(kind)}


def read_results(folder: Path) -> Results:
    """Read a folder of results.

    Raises:
        UserError: there is no such folder, or a file is named after no command, or is not what that command prints.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder of results {folder}", fix="make it, and write what docs/card.md lists there"
        )
    emissions = folder / EMISSIONS_NAME
    has_emissions = emissions.is_file()
    return Results(
        tuple(_read(path) for path in sorted(folder.glob("*.json"))),
        _read_emissions(emissions) if has_emissions else (),
        emissions if has_emissions else None,
    )


def _read(path: Path) -> Found:
    kind, _, name = path.stem.partition("-")
    if kind not in COMMANDS:
        raise UserError(
            f"{path} is named after no command that a card knows",
            fix=f"{nearest_name(kind, COMMANDS)}; name it KIND.json or KIND-NAME.json",
        )
    try:
        value = parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not one JSON object ({error})", fix=f"write what `{COMMANDS[kind]}` prints on stdout there"
        ) from None
    if not _is_finite(value):
        raise UserError(f"{path} has a number that is not finite", fix="measure it again")
    found = Found(kind, name, path, value)
    found.read(lambda value: value[_NEEDED[kind]])
    return found


def _read_emissions(path: Path) -> tuple[Mapping[str, str], ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = tuple(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error})", fix="let codecarbon write it again") from None
    if not rows or not all(_is_number(row.get(name)) for row in rows for name in ("duration", "energy_consumed")):
        raise UserError(f"{path} holds no measurement of codecarbon's", fix="let codecarbon write it again")
    return rows


def _is_finite(value: object) -> bool:
    """Whether all numbers within a value of JSON are finite; it may be nested as deeply as JSON can be."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return False
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return True


def _is_number(text: object) -> bool:
    try:
        return isinstance(text, str) and 0 <= float(text) < math.inf
    except ValueError:
        return False
