"""Unicode 13.0 whatever the running Python knows: the published vocabularies were made with these tables.

`unicode13.bin` is written by tools/make_unicode13_tables.py, which describes its layout.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NUM_CODE_POINTS = 0x110000
LOWER, UPPER, LETTER, NUMBER, MARK, NONSPACING, SPACE, CASED, CASE_IGNORABLE = (1 << bit for bit in range(9))
"""Bits of a class: categories Ll, Lu, L*, N*, M*, Mn; White_Space; Lu, Ll or Lt; Case_Ignorable."""

SECTIONS = (
    *("class_starts", "class_values", "combining_starts", "combining_values"),
    *("lower_from", "lower_to", "upper_from", "upper_to", "nfd_from", "nfd_offsets", "nfd_to"),
)
HANGUL_FIRST, HANGUL_COUNT = 0xAC00, 11172
_LEAD, _VOWEL, _TAIL = 0x1100, 0x1161, 0x11A7
_VOWELS, _TAILS = 21, 28


@cache
def sections() -> dict[str, bytes]:
    """Return the sections of the table file, each a row of little-endian u32."""
    data = zlib.decompress(Path(__file__).with_name("unicode13.bin").read_bytes())
    found, position = {}, 0
    for name in SECTIONS:
        (count,) = struct.unpack_from("<I", data, position)
        found[name] = data[position + 4 : position + 4 + 4 * count]
        position += 4 + 4 * count
    return found


@cache
def _numbers(name: str) -> tuple[int, ...]:
    data = sections()[name]
    return struct.unpack(f"<{len(data) // 4}I", data)


@cache
def _mapping(name: str) -> dict[int, int]:
    return dict(zip(_numbers(f"{name}_from"), _numbers(f"{name}_to"), strict=True))


@cache
def class_of(code: int) -> int:
    """Return the classes of a code point, one bit each."""
    return _numbers("class_values")[bisect_right(_numbers("class_starts"), code) - 1]


@cache
def combining_class(code: int) -> int:
    """Return the canonical combining class of a code point: 0 for all that is not reordered."""
    return _numbers("combining_values")[bisect_right(_numbers("combining_starts"), code) - 1]


def simple_lower(code: int) -> int:
    """Return the lower-case form of a code point by the one-to-one mapping."""
    return _mapping("lower").get(code, code)


def simple_upper(code: int) -> int:
    """Return the upper-case form of a code point by the one-to-one mapping."""
    return _mapping("upper").get(code, code)


@cache
def decompose(code: int) -> tuple[int, ...]:
    """Return the full canonical decomposition of a code point."""
    if 0 <= (syllable := code - HANGUL_FIRST) < HANGUL_COUNT:
        lead, rest = divmod(syllable, _VOWELS * _TAILS)
        vowel, tail = divmod(rest, _TAILS)
        return (_LEAD + lead, _VOWEL + vowel, *([_TAIL + tail] if tail else []))
    index = _nfd_index().get(code)
    if index is None:
        return (code,)
    start, stop = _numbers("nfd_offsets")[index : index + 2]
    return _numbers("nfd_to")[start:stop]


@cache
def _nfd_index() -> dict[int, int]:
    return {code: index for index, code in enumerate(_numbers("nfd_from"))}


def runes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each code point and its bytes; a byte that is not UTF-8 comes alone, as U+FFFD."""
    for character in data.decode(errors="surrogateescape"):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            yield 0xFFFD, bytes([code - 0xDC00])
        else:
            yield code, character.encode()


def nfd(data: bytes) -> bytes:
    """Return text decomposed canonically; bytes that are not UTF-8 stay, and nothing is reordered across them."""
    pieces: list[tuple[int, bytes]] = []
    for code, raw in runes(data):
        if code == 0xFFFD:
            pieces.append((0, raw))
        else:
            pieces += [(combining_class(part), chr(part).encode()) for part in decompose(code)]
    start = 0
    for end in range(len(pieces) + 1):
        if end == len(pieces) or pieces[end][0] == 0:
            pieces[start:end] = sorted(pieces[start:end], key=lambda piece: piece[0])
            start = end + 1
    return b"".join(raw for _, raw in pieces)
