"""The run's log: one JSON object a line, and the same records to whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stentor.artifacts import append_line, write_file
from stentor.json_text import parse_json

LOG_NAME = "log.jsonl"
Record = dict[str, Any]
Observer = Callable[[Record], None]


def to_all(observers: Sequence[Observer]) -> Observer:
    """Return an observer that shows each record to several, in order."""

    def show(record: Record) -> None:
        for observer in observers:
            observer(record)

    return show


def records_of(run_dir: Path) -> Iterator[Record]:
    """Yield the records of a run's log; none where there is no log, nor for a line that a crash cut short."""
    path = run_dir / LOG_NAME
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "kind" in record:
            yield record


class TrainingLog:
    """Appends records to `log.jsonl` and shows them to an observer.

    Args:
        run_dir: the run's folder.
        observer: called with every record, in order.
    """

    def __init__(self, run_dir: Path, observer: Observer | None) -> None:
        self._path = run_dir / LOG_NAME
        self._observer = observer

    def record(self, kind: str, **fields: Any) -> None:
        """Write and show one record."""
        record: Record = {"kind": kind, **fields}
        append_line(self._path, json.dumps(record))
        if self._observer:
            self._observer(record)

    def note(self, message: str) -> None:
        """Tell the user something in a sentence."""
        self.record("note", message=message)

    def rewind(self, step: int) -> None:
        """Forget what was logged after update `step`, which a resumed run is about to make again."""
        if not self._path.exists():
            return
        kept = [line for line in self._path.read_bytes().splitlines() if _is_up_to(line, step)]
        write_file(self._path, b"".join(line + b"\n" for line in kept))


class NoLog(TrainingLog):
    """What the processes beside the first one of a run log to: nothing."""

    def __init__(self) -> None:
        """Need no place."""

    def record(self, kind: str, **fields: Any) -> None:
        """Forget a record."""

    def rewind(self, step: int) -> None:
        """Leave the log to the first process."""


def _is_up_to(line: bytes, step: int) -> bool:
    try:
        return parse_json(line).get("step", 0) <= step
    except (ValueError, AttributeError, TypeError):
        return False  # the line a crash cut short
