"""Kinds of characters as the filters of candidates see them, at each capcode level."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from stentor.tokenizer.tokenmonster import unicode13

LETTER, NUMBER, MARKER, DELIMITER, SPACE, APOSTROPHE, ANGLE, FOREIGN = (1 << bit for bit in range(8))
"""Bits of a kind. LETTER: letters and marks on them, but no marker of capcode. FOREIGN: a letter that is not Latin."""
EITHER = LETTER | NUMBER
MARKERS = {0: b"", 1: b"\x7f", 2: b"CDW"}

# ASCII source: pairs are written by code point, an opener and its closer.
PAIRS = (
    *((0x28, 0x29), (0x5B, 0x5D), (0x7B, 0x7D), (0x27, 0x27), (0x22, 0x22), (0x60, 0x60), (0x2033, 0x2033)),
    *((0x2018, 0x2019), (0x201C, 0x201D), (0xAB, 0xBB), (0x2039, 0x203A), (0x201B, 0x2019), (0x201E, 0x201D)),
    *((0x301D, 0x301E), (0x300C, 0x300D), (0x300E, 0x300F), (0xFF62, 0xFF63), (0x3008, 0x3009), (0x300A, 0x300B)),
    *((0x201F, 0x201D), (0x275B, 0x275C), (0x275D, 0x275E), (0x276E, 0x276F), (0x3014, 0x3015), (0x2E28, 0x2E29)),
)
DELIMITERS = frozenset(code for pair in PAIRS for code in pair)
LATIN_LETTERS = (
    *((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2B8)),
    *((0x2E0, 0x2E4), (0x1D00, 0x1D25), (0x1D2C, 0x1D5C), (0x1D62, 0x1D65), (0x1D6B, 0x1D77), (0x1D79, 0x1DBE)),
    *((0x1E00, 0x1EFF), (0x2071, 0x2071), (0x207F, 0x207F), (0x2090, 0x209C), (0x212A, 0x212B), (0x2132, 0x2132)),
    *((0x214E, 0x214E), (0x2160, 0x2188), (0x2C60, 0x2C7F), (0xA722, 0xA787), (0xA78B, 0xA7BF), (0xA7C2, 0xA7CA)),
    *((0xA7F5, 0xA7FF), (0xAB30, 0xAB5A), (0xAB5C, 0xAB64), (0xFB00, 0xFB06), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)),
)
"""Ranges of the script Latin in Unicode 13 (Scripts.txt), both ends included."""


@cache
def kinds_of(capcode: int) -> NDArray[np.uint8]:
    """Return the kind of every code point at a capcode level."""
    starts, values = (np.frombuffer(unicode13.sections()[f"class_{part}"], "<u4") for part in ("starts", "values"))
    classes = np.repeat(values, np.diff(starts, append=np.uint32(unicode13.NUM_CODE_POINTS)))
    kinds = np.zeros(unicode13.NUM_CODE_POINTS, np.uint8)
    kinds[(classes & (unicode13.LETTER | unicode13.MARK)) != 0] |= LETTER
    kinds[(classes & unicode13.NUMBER) != 0] |= NUMBER
    kinds[(classes & unicode13.SPACE) != 0] |= SPACE
    kinds[sorted(DELIMITERS)] |= DELIMITER
    kinds[[0x27, 0x2019]] |= APOSTROPHE
    kinds[[0x3C, 0x3E]] |= ANGLE
    is_latin = np.zeros(kinds.size, np.bool_)
    for first, last in LATIN_LETTERS:
        is_latin[first : last + 1] = True
    kinds[((classes & unicode13.LETTER) != 0) & ~is_latin] |= FOREIGN
    kinds[list(MARKERS[capcode])] = MARKER
    return kinds
