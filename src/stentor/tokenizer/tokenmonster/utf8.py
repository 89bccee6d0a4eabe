"""UTF-8 within the kernels: one code point at a time, and never a crash on bytes that are something else."""

from __future__ import annotations

import numpy as np

from stentor.compiled import Bytes, Int, inlined, kernel

INVALID = 0xFFFD
"""What a byte that is not UTF-8 counts as."""


@inlined
def rune_at(data: Bytes, position: Int, end: Int) -> tuple[Int, Int]:
    """Return the code point at a position and its width in bytes: U+FFFD and 1 for a byte that is not UTF-8.

    Reference: the Unicode Standard, table 3-7, "Well-Formed UTF-8 Byte Sequences".
    """
    first = np.int64(data[position])
    if first < 0x80:
        return first, 1
    if first < 0xC2 or first > 0xF4:
        return INVALID, 1
    width = 2 + (first >= 0xE0) + (first >= 0xF0)
    if position + width > end:
        return INVALID, 1
    second = np.int64(data[position + 1])
    low, high = second_byte_range(first)
    if second < low or second > high:
        return INVALID, 1
    code = ((first & (0x7F >> width)) << 6) | (second & 0x3F)
    for offset in range(2, width):
        byte = np.int64(data[position + offset])
        if byte & 0xC0 != 0x80:
            return INVALID, 1
        code = (code << 6) | (byte & 0x3F)
    return code, width


@inlined
def second_byte_range(first: Int) -> tuple[Int, Int]:
    """Return the least and the greatest byte that may follow a first byte: no overlong forms, no surrogates."""
    low, high = 0x80, 0xBF
    if first == 0xE0:
        low = 0xA0
    elif first == 0xED:
        high = 0x9F
    elif first == 0xF0:
        low = 0x90
    elif first == 0xF4:
        high = 0x8F
    return low, high


@inlined
def put_rune(out: Bytes, position: Int, code: Int) -> Int:
    """Write a code point; return the position behind it."""
    if code < 0x80:
        out[position] = code
        return position + 1
    if code < 0x800:
        out[position] = 0xC0 | (code >> 6)
        out[position + 1] = 0x80 | (code & 0x3F)
        return position + 2
    if code < 0x10000:
        out[position] = 0xE0 | (code >> 12)
        out[position + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[position + 2] = 0x80 | (code & 0x3F)
        return position + 3
    out[position] = 0xF0 | (code >> 18)
    out[position + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[position + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[position + 3] = 0x80 | (code & 0x3F)
    return position + 4


@kernel
def unfinished_tail(data: Bytes, end: Int) -> Int:
    """Return how many bytes at the end may still become a character; none that can no longer become one."""
    for length in range(1, min(3, end) + 1):
        first = np.int64(data[end - length])
        if first & 0xC0 == 0x80:
            continue
        if first < 0xC2 or first > 0xF4:
            return 0
        width = 2 + (first >= 0xE0) + (first >= 0xF0)
        if length >= width:
            return 0
        if length > 1:
            low, high = second_byte_range(first)
            second = np.int64(data[end - length + 1])
            if second < low or second > high:
                return 0
        return length
    return 0
