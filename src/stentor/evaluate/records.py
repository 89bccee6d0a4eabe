"""Evaluation data -> records: JSON lines whose fields are checked; a mistake is named by its file, line and field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stentor.errors import UserError
from stentor.text.blocks import read_blocks

Check = Callable[[Any], bool]
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of a record must be.

    Attributes:
        meaning: in words, for the message.
        is_right: tells a right value from a wrong one.
    """

    meaning: str
    is_right: Check


TEXT = Field("a text that is not empty", lambda value: isinstance(value, str) and value != "")


@dataclass(frozen=True, slots=True)
class Record:
    """A line of a file.

    Attributes:
        values: its fields, those that nobody asked for too.
        place: the file and the line, for messages.
    """

    values: Mapping[str, Any]
    place: str


def record_files(path: Path) -> list[Path]:
    """Return the files of JSON lines in a folder, by name; or the file itself.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS) and not file.name.startswith("."))
        if not found:
            raise UserError(f"the folder {path} has no .jsonl file", fix="name the folder that holds the task's files")
        return found
    if not path.exists():
        raise UserError(f"no such file or folder: {path}", fix="check the path of the task's data")
    if not path.name.endswith(ENDINGS):
        raise UserError(f"{path} is no file of JSON lines", fix=f"give it a name that ends in {', '.join(ENDINGS)}")
    return [path]


def read_records(path: Path, fields: Mapping[str, Field]) -> Iterator[Record]:
    """Yield the lines of a file that are not blank.

    Args:
        path: plain or compressed.
        fields: that each line must have; others are ignored.

    Raises:
        UserError: a line is no JSON object or lacks a field; or the file cannot be read, or has no line.
    """
    number = num_records = 0
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        num_records += 1
        yield _record(line, f"{path} line {number}", fields)
    if not num_records:
        raise UserError(f"{path} has no line to evaluate", fix="write one JSON object a line")


def _record(line: bytes, place: str, fields: Mapping[str, Field]) -> Record:
    example = "{" + ", ".join(f'"{name}": ...' for name in fields) + "}"
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not valid JSON: {error}", fix=f"write one object a line: {example}") from None
    if not isinstance(values, dict):
        raise UserError(f"{place} is no JSON object", fix=f"write one object a line: {example}")
    for name, field in fields.items():
        if name not in values:
            keys = ", ".join(list(values)[:12]) or "none"
            raise UserError(f'{place} has no field "{name}" (fields: {keys})', fix=f"write {example}")
        if not field.is_right(values[name]):
            raise UserError(f'the field "{name}" in {place} is not {field.meaning}', fix=f"write {example}")
    return Record(values, place)


def _lines(path: Path) -> Iterator[bytes]:
    left = b""
    for block in read_blocks(path):
        *lines, left = (left + block).split(b"\n")
        yield from lines
    if left:
        yield left
