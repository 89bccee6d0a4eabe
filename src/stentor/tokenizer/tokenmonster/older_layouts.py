"""Recognise the two layouts of 2023 that came before the current one, to say what a file is instead of `damaged`."""

from __future__ import annotations

from stentor.tokenizer.tokenmonster.vocab_file import MAX_TOKEN_BYTES

_ENOUGH = 200
"""Records in perfect order that no other file would show."""


def older_layout(data: bytes) -> str | None:
    """Return when a file of an older layout was made, or None for anything else."""
    if len(data) < 16:
        return None
    if max(data[0], data[1], data[5]) <= 1 and data[2] <= 2 and _ordered(data, 12, 12, _u24(data, 6)):
        return "3 to 10 July 2023"
    if data[0] <= 1 and data[1] <= 2 and any(_ordered(data, 5, tail, _u24(data, 2)) for tail in range(3, 13)):
        return "May or June 2023"
    return None


def _u24(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


def _ordered(data: bytes, position: int, tail: int, count: int) -> bool:
    """Whether records that carry `tail` bytes behind their token start here, in order of length, then bytes."""
    before = (0, b"")
    for _ in range(min(count, _ENOUGH)):
        length = data[position] if position < len(data) else 0
        token = data[position + 1 : position + 1 + length]
        if not before < (length, token) or length != len(token) or length > MAX_TOKEN_BYTES:
            return False
        before = (length, token)
        position += 1 + length + tail
    return count > 0 and position <= len(data)
