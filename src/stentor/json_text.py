"""JSON from outside: whatever is wrong with it is one kind of error, and no key may stand twice."""

from __future__ import annotations

import json
from typing import Any


def parse_json(data: bytes | str) -> Any:
    """Return what a JSON text stands for.

    A key that stands twice is refused: readers differ in which of the values they take.

    Raises:
        ValueError: it is not JSON, not UTF-8, nested too deeply, or a key stands twice in one object.
    """
    try:
        return json.loads(data, object_pairs_hook=_with_each_key_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.80} stands twice")
    return table
