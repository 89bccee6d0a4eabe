"""The steps that may come before capcode, in plain Python and in the one order that gives the published ids.

Three habits of the original matter here. Collapsing spaces and straightening quotes together is one pass that leaves
a quote alone while exactly one byte has been removed; the lower case of a sigma is the final form only where a
character behind it proves that the word ended. Both are copied. Trimming together with the leading space loses the
last byte there and fails on blank text: that is a bug, and is not copied. Nor is its NFD's habit of putting U+034F
into runs of more than thirty combining marks.
"""

from __future__ import annotations

from stentor.tokenizer.tokenmonster.unicode13 import (
    CASE_IGNORABLE,
    CASED,
    NONSPACING,
    class_of,
    nfd,
    runes,
    simple_lower,
)

NFD, LOWERCASE, ACCENTS, QUOTEMARKS, COLLAPSE, TRIM, LEADING_SPACE, UNIX_LINES = (1 << bit for bit in range(8))
NAMES = {
    "nfd": NFD,
    "lowercase": LOWERCASE,
    "accents": ACCENTS,
    "quotemarks": QUOTEMARKS,
    "collapse": COLLAPSE,
    "trim": TRIM,
    "leadingspace": LEADING_SPACE,
    "unixlines": UNIX_LINES,
}
SYNONYMS = {
    synonym: name
    for name, synonyms in {
        "lowercase": "case",
        "accents": "accent",
        "quotemarks": "quotes quotemark apostrophe apostrophes",
        "collapse": "space spaces doublespace doublespaces",
        "trim": "trimspace trim-space",
        "leadingspace": "addleadingspace leading-space",
        "unixlines": "newlines lines unix-lines new-lines",
    }.items()
    for synonym in synonyms.split()
}
_QUOTES = {
    "\u2018".encode(): b"'",
    "\u2019".encode(): b"'",
    "\u201c".encode(): b'"',
    "\u201d".encode(): b'"',
}
_BLANKS = bytes(range(0x21))
_SIGMA, _FINAL_SIGMA, _DOTTED_I = 0x3A3, 0x3C2, 0x130
_MAX_IGNORED = 30


def normalize(data: bytes, flags: int) -> bytes:
    """Return text after every step that the flags ask for; what is not UTF-8 passes unchanged."""
    data = normalize_bytes(data, flags)
    if flags & (NFD | ACCENTS):
        data = nfd(data)
    if flags & ACCENTS:
        data = b"".join(raw for code, raw in runes(data) if not class_of(code) & NONSPACING)
    return _lowercase(data) if flags & LOWERCASE else data


def normalize_bytes(data: bytes, flags: int) -> bytes:
    """Return text after the steps that know only bytes: all those before NFD."""
    if flags & COLLAPSE and flags & QUOTEMARKS:
        data = _collapse_and_straighten(data, flags)
    else:
        if flags & UNIX_LINES:
            data = data.replace(b"\r\n", b"\n")
        if flags & COLLAPSE:
            data = _collapse(data)
        if flags & QUOTEMARKS:
            for curly, straight in _QUOTES.items():
                data = data.replace(curly, straight)
    if flags & TRIM:
        data = data.strip(_BLANKS)
    if flags & LEADING_SPACE and data and not data.startswith(b" "):
        data = b" " + data
    return data


def _collapse(data: bytes) -> bytes:
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data


def _collapse_and_straighten(data: bytes, flags: int) -> bytes:
    kept, num_removed, position = bytearray(), 0, 0
    while position < len(data):
        step, keep = 1, data[position : position + 1]
        is_repeated = keep == b" " and data[position - 1 : position] == b" "
        if is_repeated or (flags & UNIX_LINES and data.startswith(b"\r\n", position)):
            keep = b""
        elif (straight := _QUOTES.get(data[position : position + 3])) and num_removed != 1:
            step, keep = 3, straight
        num_removed += step - len(keep)
        kept += keep
        position += step
    return bytes(kept)


def _lowercase(data: bytes) -> bytes:
    pieces = list(runes(data))
    lowered: list[bytes] = []
    in_word = False
    for index, (code, raw) in enumerate(pieces):
        kind = class_of(code)
        if code == _SIGMA and in_word and _word_ends(pieces, index + 1):
            lowered.append(chr(_FINAL_SIGMA).encode())
        elif code == _DOTTED_I:
            lowered.append("i\u0307".encode())
        else:
            small = simple_lower(code)
            lowered.append(raw if small == code else chr(small).encode())
        in_word = bool(kind & CASED) or (in_word and bool(kind & CASE_IGNORABLE))
    return b"".join(lowered)


def _word_ends(pieces: list[tuple[int, bytes]], start: int) -> bool:
    """Whether a character that is no part of a word comes next, past what is ignored within words."""
    for code, _ in pieces[start : start + _MAX_IGNORED]:
        kind = class_of(code)
        if not kind & CASE_IGNORABLE:
            return not kind & CASED
    return False
