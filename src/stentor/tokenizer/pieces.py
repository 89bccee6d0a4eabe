"""Cut what is to be encoded into pieces that can be encoded one by one without changing an id.

The library needs about 140 bytes of memory for each byte of one text, and gives one text to one thread; a book in
one document must not cost gigabytes. A cut is made only where the Llama-3 pattern always ends a word, whatever
stands around it:

- between a letter and a single space before a letter: only `[^\\r\\n\\p{L}\\p{N}]?\\p{L}+` matches letters, and a
  space cannot follow them in it;
- after a line feed before a word: every alternative that takes a line feed ends with it there.

The pattern never looks behind, so the rest of the text is split as if it stood alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PIECE_CHARACTERS = 16_384
_CERTAIN_BOUNDARY = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])|(?<=\n)(?=\w)")
_NOT_UTF8 = re.compile("([\udc80-\udcff])")


def cut(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Yield pieces of at least `size` characters (the last may be shorter) whose ids are those of the whole."""
    start = 0
    while len(text) - start > size:
        boundary = _CERTAIN_BOUNDARY.search(text, start + size)
        if boundary is None:
            break
        yield text[start : boundary.start()]
        start = boundary.start()
    if start < len(text):
        yield text[start:]


def exact_parts(text: str | bytes) -> list[str | int]:
    """Return what to encode: stretches of valid text, and each byte that is not UTF-8 as a number.

    Lone surrogates in a string become `?`, as with `errors="replace"`.
    """
    if isinstance(text, bytes):
        decoded = text.decode(errors="surrogateescape")
        parts = _NOT_UTF8.split(decoded) if not text.isascii() else [decoded]
        return [ord(part) - 0xDC00 if "\udc80" <= part <= "\udcff" else part for part in parts if part]
    return [without_surrogates(text)] if text else []


def without_surrogates(text: str) -> str:
    """Return a string that UTF-8 can carry; lone surrogates become `?`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text
