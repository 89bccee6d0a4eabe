"""Capcode: capitals and missing spaces spelt out, so that " hello" is one token wherever it stands.

The original marks a run of capitals as a `W` word and goes back to mark each letter when a small one joins the run.
Here the run is looked through once before it is written: the same bytes, in linear time.
"""

# ruff: noqa: ANN001, ANN202 - types of inlined functions come from their callers
from __future__ import annotations

import numpy as np

from stentor.compiled import Bytes, Int, borrowed, inlined, kernel
from stentor.tokenizer.tokenmonster.tables import (
    APOSTROPHE,
    BLANK,
    LETTER,
    LOWER,
    MARK,
    NUMBER,
    UPPER,
    UnicodeArrays,
)
from stentor.tokenizer.tokenmonster.utf8 import INVALID, put_rune, rune_at

GROWTH = 4
"""No text gets more than four times as long: `1A1A` is the worst."""
_C, _D, _W, _SPACE, _DELETE, _DELETE_STAND_IN = ord("C"), ord("D"), ord("W"), 0x20, 0x7F, 0x14
_MARKED = UPPER | NUMBER | APOSTROPHE
_OUTSIDE, _WORD, _LETTERS = range(3)
"""Not in a run of capitals; in one marked by `W`; in one whose letters are marked by `C` each."""
_CHAR, _IN_WORD, _PENDING_DELETE, _IGNORE = (1 << bit for bit in range(4))
"""What a decoder remembers between two characters."""


@kernel
def capcode1(data: Bytes, start: Int, end: Int, out: Bytes, unicode: UnicodeArrays) -> Int:
    """Write level 1: only missing spaces are marked. Return the length."""
    classes, data, out = borrowed(unicode.classes), borrowed(data), borrowed(out)
    position, size, before, before_that = start, 0, 0, 0
    while position < end:
        while position < end:  # most of a text goes on as it is
            code = np.int64(data[position])
            kind = np.int64(classes[code])
            is_first = kind & LETTER and before & (LETTER | BLANK) == 0
            if code >= _DELETE or kind & (NUMBER | APOSTROPHE) or is_first:
                break
            out[size] = code
            size, position = size + 1, position + 1
            before, before_that = kind, before
        if position == end:
            break
        code, width = rune_at(data, position, end)
        kind = np.int64(classes[code])
        joined = kind & (LETTER | NUMBER) == 0 or before & BLANK
        if kind & LETTER:
            joined = joined or before & (LETTER | MARK) or (before & APOSTROPHE and before_that & LETTER)
        elif kind & NUMBER:
            joined = joined or before & NUMBER
        if not joined:
            out[size], out[size + 1] = _DELETE, _SPACE
            size += 2
        for offset in range(width):
            out[size + offset] = data[position + offset] if code != _DELETE else _DELETE_STAND_IN
        size, position = size + width, position + width
        before, before_that = kind, before
    return size


@kernel
def capcode2(data: Bytes, start: Int, end: Int, out: Bytes, unicode: UnicodeArrays) -> Int:
    """Write level 2: capitals become small letters behind a marker. Return the length."""
    classes, lower, data, out = borrowed(unicode.classes), borrowed(unicode.lower), borrowed(data), borrowed(out)
    position, size, before, before_that, state = start, 0, 0, 0, _OUTSIDE
    while position < end:
        while state == _OUTSIDE and position < end:  # most of a text goes on as it is
            code = np.int64(data[position])
            kind = np.int64(classes[code])
            if code >= 0x80 or kind & _MARKED or (kind & LOWER and before & (LOWER | BLANK) == 0):
                break
            out[size] = code
            size, position = size + 1, position + 1
            before, before_that = kind, before
        if position == end:
            break
        code, width = np.int64(data[position]), 1
        if code >= 0x80:
            code, width = rune_at(data, position, end)
        kind = np.int64(classes[code])
        if kind & UPPER:
            if state == _OUTSIDE:
                state = _run_of_capitals(data, position + width, end, classes)
                if before & BLANK:
                    size -= 1
                else:
                    out[size] = _D
                    size += 1
                size = _put_marker(out, size, _W if state == _WORD else _C)
            else:
                size = _put_inner_capital(out, size, code, before, state, classes, lower)
            size = put_rune(out, size, code + lower[code])
        else:
            if _needs_space(kind, before, before_that, state):
                size = _put_marker(out, size, _D)
            if kind & (NUMBER | APOSTROPHE | MARK) == 0:
                state = _OUTSIDE
            out[size] = data[position]
            for offset in range(1, width):
                out[size + offset] = data[position + offset]
            size += width
        position += width
        before, before_that = kind, before
    return size


@inlined
def _put_marker(out, size, marker):
    out[size], out[size + 1] = marker, _SPACE
    return size + 2


@inlined
def _needs_space(kind, before, before_that, state):
    """Whether a small letter or a number stands where a space must be put before it, and deleted again."""
    if kind & LOWER:
        if state != _OUTSIDE:
            return before & (LETTER | APOSTROPHE | MARK) == 0
        return before & (BLANK | LOWER | MARK) == 0 and (before & APOSTROPHE == 0 or before_that & LETTER == 0)
    if kind & NUMBER:
        return before & NUMBER == 0 and (state != _OUTSIDE or before & BLANK == 0)
    return False


@inlined
def _run_of_capitals(data, position, end, classes):
    """Return how the run that goes on here is marked: letter by letter if a small letter ends it."""
    while position < end:
        code, width = rune_at(data, position, end)
        kind = np.int64(classes[code])
        if kind & LOWER:
            return _LETTERS
        if kind & (UPPER | NUMBER | APOSTROPHE | MARK) == 0:
            return _WORD
        position += width
    return _WORD


@inlined
def _put_inner_capital(out, size, code, before, state, classes, lower):
    """Write what comes before a capital that is not the first of its run."""
    is_marked = state == _LETTERS and classes[code + lower[code]] & LOWER
    if is_marked or before & (LETTER | APOSTROPHE | MARK) == 0:
        out[size] = _D
        size += 1
        if is_marked:
            out[size] = _C
            size += 1
        out[size] = _SPACE
        size += 1
    return size


@kernel
def uncapcode1(data: Bytes, end: Int, out: Bytes, state: Int) -> tuple[Int, Int]:
    """Write the text of level 1; return its length and the state to go on with."""
    size = 0
    for position in range(end):
        if state:
            state = 0
        elif data[position] == _DELETE:
            state = 1
        else:
            out[size] = data[position]
            size += 1
    return size, state


@kernel
def uncapcode2(data: Bytes, end: Int, out: Bytes, state: Int, unicode: UnicodeArrays) -> tuple[Int, Int]:
    """Write the text of level 2; return its length, at most one and a half of the input's, and the state."""
    classes, upper, data, out = borrowed(unicode.classes), borrowed(unicode.upper), borrowed(data), borrowed(out)
    position, size = 0, 0
    while position < end:
        while state == 0 and position < end and data[position] < 0x80 and not _is_marker(data[position]):
            out[size] = data[position]
            size, position = size + 1, position + 1
        if position == end:
            break
        code, width = np.int64(data[position]), 1
        if code >= 0x80:
            code, width = rune_at(data, position, end)
        if code == _C:
            state = (state | _CHAR) & ~_IN_WORD
        elif code == _W:
            state = (state | _IN_WORD | _IGNORE) & ~_CHAR
        elif code == _D:
            state |= _PENDING_DELETE
        else:
            if state & _PENDING_DELETE:
                state &= ~_PENDING_DELETE
            elif state & (_CHAR | _IN_WORD) == 0:
                for offset in range(width):
                    out[size + offset] = data[position + offset]
                size += width
            else:
                size, state = _put_marked(data, position, width, code, out, size, state, classes, upper)
            state &= ~_IGNORE
        position += width
    return size, state


@inlined
def _is_marker(byte):
    return (byte == _C) | (byte == _D) | (byte == _W)


@inlined
def _put_marked(data, position, width, code, out, size, state, classes, upper):
    """Write a character that a marker stands before."""
    kind = np.int64(classes[code])
    is_raised = code != INVALID
    if code == _SPACE:
        is_raised = False
        if state & _IGNORE == 0:
            state &= ~_IN_WORD
    elif state & _CHAR:
        state &= ~_CHAR
    else:
        is_raised = kind & (LOWER | UPPER) != 0
        if kind & (LOWER | UPPER | NUMBER | APOSTROPHE | MARK) == 0:
            state &= ~_IN_WORD
    if is_raised:
        return put_rune(out, size, code + upper[code]), state
    for offset in range(width):
        out[size + offset] = data[position + offset]
    return size + width, state
