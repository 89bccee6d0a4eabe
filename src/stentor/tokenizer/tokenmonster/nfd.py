"""Canonical decomposition (NFD of Unicode 13) over bytes, in linear time whatever the input."""

from __future__ import annotations

import numpy as np

from stentor.compiled import Bytes, Int, borrowed, inlined, kernel
from stentor.tokenizer.tokenmonster.tables import UnicodeArrays
from stentor.tokenizer.tokenmonster.utf8 import put_rune, rune_at

GROWTH = 3
"""No character's decomposition takes more than three times its bytes."""
# ruff: noqa: ANN001, ANN202 - types of inlined functions come from their callers
_HANGUL, _HANGUL_COUNT, _LEAD, _VOWEL, _TAIL, _VOWELS, _TAILS = 0xAC00, 11172, 0x1100, 0x1161, 0x11A7, 21, 28


@kernel
def is_nfd(data: Bytes, start: Int, end: Int, unicode: UnicodeArrays) -> bool:
    """Whether decomposing would change nothing."""
    nfd_index, classes, data = borrowed(unicode.nfd_index), borrowed(unicode.combining), borrowed(data)
    position, last = start, 0
    while position < end:
        if data[position] < 0x80:
            position, last = position + 1, 0
            continue
        code, width = rune_at(data, position, end)
        combining = np.int64(classes[code])
        if nfd_index[code] or 0 <= code - _HANGUL < _HANGUL_COUNT or 0 < combining < last:
            return False
        position, last = position + width, combining
    return True


@kernel
def decompose(data: Bytes, start: Int, end: Int, out: Bytes, unicode: UnicodeArrays) -> Int:
    """Write the decomposed text; return its length."""
    classes, nfd_index, data, out = (
        borrowed(unicode.combining),
        borrowed(unicode.nfd_index),
        borrowed(data),
        borrowed(out),
    )
    nfd_offsets, nfd_codes = borrowed(unicode.nfd_offsets), borrowed(unicode.nfd_codes)
    position, size, marks_start, last, is_disordered = start, 0, 0, 0, False
    while position < end:
        if data[position] < 0x80:
            if is_disordered:
                _reorder(out, marks_start, size, classes)
            out[size] = data[position]
            position, size, last, is_disordered = position + 1, size + 1, 0, False
            marks_start = size
            continue
        code, width = rune_at(data, position, end)
        before = size
        size = _put_decomposed(data, position, width, code, out, size, nfd_index, nfd_offsets, nfd_codes)
        position += width
        while before < size:  # of what was just written
            code, width = rune_at(out, before, size)
            combining = np.int64(classes[code])
            if combining == 0 and is_disordered:
                _reorder(out, marks_start, before, classes)
            is_disordered = combining > 0 and (is_disordered or combining < last)
            before, last = before + width, combining
            if combining == 0:
                marks_start = before
    if is_disordered:
        _reorder(out, marks_start, size, classes)
    return size


@inlined
def _put_decomposed(data, position, width, code, out, size, nfd_index, nfd_offsets, nfd_codes):
    index = np.int64(nfd_index[code])
    if index:
        for part in range(np.int64(nfd_offsets[index - 1]), np.int64(nfd_offsets[index])):
            size = put_rune(out, size, np.int64(nfd_codes[part]))
        return size
    syllable = code - _HANGUL
    if not 0 <= syllable < _HANGUL_COUNT:
        return _copied(data, position, width, out, size)
    size = put_rune(out, size, _LEAD + syllable // (_VOWELS * _TAILS))
    size = put_rune(out, size, _VOWEL + syllable // _TAILS % _VOWELS)
    tail = syllable % _TAILS
    return put_rune(out, size, _TAIL + tail) if tail else size


@inlined
def _copied(data, position, width, out, size):
    for offset in range(width):
        out[size + offset] = data[position + offset]
    return size + width


@kernel
def _reorder(out: Bytes, start: Int, end: Int, classes: Bytes) -> None:
    """Sort marks by combining class, equals staying as they are: a counting sort, linear for any number of marks."""
    marks = out[start:end].copy()
    targets = np.zeros(257, np.int64)
    targets[0] = start
    position = 0
    while position < marks.size:
        code, width = rune_at(marks, position, marks.size)
        targets[np.int64(classes[code]) + 1] += width
        position += width
    for combining in range(256):
        targets[combining + 1] += targets[combining]
    position = 0
    while position < marks.size:
        code, width = rune_at(marks, position, marks.size)
        combining = np.int64(classes[code])
        targets[combining] = _copied(marks, position, width, out, targets[combining])
        position += width
