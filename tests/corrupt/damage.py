"""Ways to damage a file: of any bytes, of JSON, of counts at known places. The same seed gives the same files."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple


class Damaged(NamedTuple):
    """A damaged file.

    Attributes:
        kind: of damage, one of a few.
        data: what the file holds now.
    """

    kind: str
    data: bytes


class _Unpickled:
    """What would run if anybody unpickled a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('unpickled', 'w').close()",)


PICKLED = pickle.dumps(_Unpickled())
OUTSIDE = ("../outside.safetensors", "/etc/passwd", "a/../../x", "C:\\x", "..\\x", "", ".", "..", "\0", "//host/x")
"""Names that lead out of a folder, or nowhere."""


def damaged_bytes(data: bytes, draw: Random, count: int, *, boundaries: Sequence[int] = ()) -> Iterator[Damaged]:
    """Yield so many damages of each kind that any bytes can suffer.

    Args:
        data: the sound file.
        draw: of all choices.
        count: of each kind that chance has a part in.
        boundaries: where parts of the file begin, at and beside which it is cut.
    """
    yield Damaged("emptied", b"")
    yield Damaged("zero-filled", bytes(len(data)))
    yield Damaged("pickled", PICKLED)
    cuts = {place + step for place in boundaries for step in (-1, 0, 1)} | {1, len(data) - 1, len(data) // 2}
    for place in draw.sample(sorted(cuts), min(count, len(cuts))):
        yield Damaged("truncated", data[: max(0, place)])
    for _ in range(count):
        yield Damaged("truncated", data[: draw.randrange(len(data))])
        yield Damaged("flipped", _flipped(data, draw, near=boundaries))
        yield Damaged(
            "extended", data + draw.choice([b"\0", b"\n", b"{}", data, draw.randbytes(draw.randint(1, 5000))])
        )
        start = draw.randrange(len(data))
        end = min(len(data), start + draw.randint(1, 600))
        yield Damaged("zero-filled", data[:start] + bytes(end - start) + data[end:])
        yield Damaged("spliced", data[: draw.randrange(len(data))] + data[draw.randrange(len(data)) :])


def _flipped(data: bytes, draw: Random, *, near: Sequence[int]) -> bytes:
    """Turn one bit, or overwrite a byte; half of the time within the first bytes of a part."""
    changed = bytearray(data)
    place = draw.randrange(len(data))
    if near and draw.random() < 0.5:
        place = min(len(data) - 1, max(0, draw.choice(near) + draw.randrange(40)))
    changed[place] = draw.choice([changed[place] ^ (1 << draw.randrange(8)), draw.randrange(256)])
    return bytes(changed)


COUNTS = (0, 1, 255, (1 << 16) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1)


def damaged_counts(data: bytes, draw: Random, count: int, places: Mapping[int, int]) -> Iterator[Damaged]:
    """Overwrite counts, which stand at some bytes and have some widths, little-endian, by absurd ones."""
    for _ in range(count):
        place, width = draw.choice(sorted(places.items()))
        number = draw.choice(COUNTS) & ((1 << 8 * width) - 1)
        yield Damaged("absurd count", data[:place] + number.to_bytes(width, "little") + data[place + width :])


# --- JSON ---

DEEP = 100_000
_NUMBERS = ("-1", "0", "1e999", "-1e999", "NaN", "Infinity", "1e308", "0.5", str(1 << 31), str(1 << 64), "9" * 400)
_NUMBERS += ("9" * 5000, str(10**9), str(10**12), "1e-320", "true")
_OTHERS = ("null", "true", "[]", "{}", '""', '"x"', "3", "-0.0", '"\\ud800"', '"\\u0000"', "[[]]", '{"a": 1}', '"../x"')
_MARK = "\x01here\x01"


def damaged_json(data: bytes, draw: Random, count: int, *, keys: Sequence[str] = ()) -> Iterator[Damaged]:
    """Yield damages that only JSON can suffer: numbers, types, keys and depth.

    Args:
        data: JSON, of any depth.
        draw: of all choices.
        count: of each kind.
        keys: which of the outermost ones are damaged; empty for all.
    """
    table = json.loads(data)
    chosen = [path for path in _paths(table) if not keys or str(path[0]) in keys]
    numbers = [path for path in chosen if type(_at(table, path)) in (int, float)] or chosen
    named = [path for path in chosen if isinstance(path[-1], str)] or chosen
    for _ in range(count):
        yield Damaged("absurd number", _with(table, draw.choice(numbers), draw.choice(_NUMBERS)))
        yield Damaged("wrong type", _with(table, draw.choice(chosen), draw.choice(_OTHERS)))
        yield Damaged("missing field", _without(table, draw.choice(named)))
        yield Damaged("duplicate key", _twice(table, draw.choice(named), draw.choice((*_NUMBERS[:6], *_OTHERS))))
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * DEEP + "1" + closing * DEEP
        yield Damaged("deep nesting", deep.encode())
        yield Damaged("deep nesting", _with(table, draw.choice(chosen), deep))


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where every value stands; of a long list or table, the first few."""
    found = [path] if path else []
    items: list[Any] = list(value.items()) if isinstance(value, dict) else []
    items = list(enumerate(value)) if isinstance(value, list) else items
    for key, inner in items[:60]:
        found += _paths(inner, (*path, key))
    return found


def _at(table: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        table = table[key]
    return table


def _copy_to(table: Any, path: Sequence[str | int]) -> tuple[Any, Any]:
    """Return a copy, and the container in it that holds what the path leads to."""
    copied = json.loads(json.dumps(table))
    return copied, _at(copied, path[:-1])


def _with(table: Any, path: Sequence[str | int], raw: str) -> bytes:
    copied, holder = _copy_to(table, path)
    holder[path[-1]] = _MARK
    return json.dumps(copied).replace(json.dumps(_MARK), raw).encode()


def _without(table: Any, path: Sequence[str | int]) -> bytes:
    copied, holder = _copy_to(table, path)
    del holder[path[-1]]
    return json.dumps(copied).encode()


def _twice(table: Any, path: Sequence[str | int], raw: str) -> bytes:
    copied, holder = _copy_to(table, path)
    if isinstance(holder, list):
        holder.append(_MARK)
        return json.dumps(copied).replace(json.dumps(_MARK), raw).encode()
    holder[_MARK] = 0
    return json.dumps(copied).replace(f"{json.dumps(_MARK)}: 0", f"{json.dumps(path[-1])}: {raw}").encode()


# --- the header of a safetensors file ---


def with_header(data: bytes, header: bytes, *, length: int | None = None) -> bytes:
    """Return a safetensors file with another header."""
    (old,) = struct.unpack_from("<Q", data)
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header) if length is None else length) + header + data[8 + old :]


def damaged_safetensors(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    """Yield damages of the header: of its JSON, and of its length."""
    (length,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + length]
    for kind, damaged in damaged_json(header, draw, count):
        yield Damaged(kind, with_header(data, damaged))
    for number in draw.sample(COUNTS, min(count, len(COUNTS))):
        yield Damaged("absurd count", struct.pack("<Q", number) + data[8:])
    table = json.loads(header)
    names = [name for name in table if name != "__metadata__"]
    for _ in range(count):
        one, other = draw.sample(names, 2)
        swapped = {**table, one: {**table[one], "data_offsets": table[other]["data_offsets"]}}
        swapped[other] = {**table[other], "data_offsets": table[one]["data_offsets"]}
        yield Damaged("swapped offsets", with_header(data, json.dumps(swapped).encode()))
