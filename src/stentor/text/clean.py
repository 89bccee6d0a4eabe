"""Raw documents -> clean documents: each step is a generator, and every drop has a counted reason."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from stentor.errors import missing_extra
from stentor.text.document import Document, Tally

# Repairs can uncover each other (a decoded ligature may be mojibake again); real text settles in two passes.
_MAX_PASSES = 16
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_LINE_ENDINGS = re.compile("\r\n?|[\v\f\u2028\u2029]")
_TERMINAL_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Every sign of a wrong decoding that ftfy knows has two neighbours outside ASCII, or one of these. Its own expression
# is many times slower than this look, so ftfy is asked about such lines alone; a test holds the two together.
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_MOJIBAKE_LONERS = frozenset("\xc2\xc3\u0152\u0153").union(map(chr, range(0x80, 0xA0)))
# Controls (but not tab and line feed), Unicode's line separators, soft hyphens, zero-width spaces, byte order marks,
# direction marks and noncharacters. The joiners U+200C and U+200D stay: emoji and several scripts are spelt with them.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
# Measured, read as UTF-8: densely accented French in Latin-1 has 16 such characters in 100, pictures 42, programs 50,
# Cyrillic in cp1251 84.
_MAX_BINARY_SHARE = 0.25
_MANY_BLANK_LINES = re.compile(r"\n{4,}")


def clean_documents(documents: Iterable[Document], *, min_characters: int, tally: Tally) -> Iterator[Document]:
    """Drop what is no text, repair the rest, and drop what is short afterwards."""
    texts = drop_binary(documents, tally=tally)
    return drop_short(repair(texts), min_characters=min_characters, tally=tally)


def drop_binary(documents: Iterable[Document], *, tally: Tally) -> Iterator[Document]:
    """Drop documents that are mostly not text: programs, pictures, other encodings (reason `not_text`).

    Their signs are zero bytes and bytes that are not UTF-8. Single ones are repaired, not held against a text.
    """
    for document in documents:
        signs = document.text.count("\0") + document.text.count("\ufffd")
        if signs > _MAX_BINARY_SHARE * len(document.text):
            tally.dropped("not_text", document)
        else:
            yield document


def repair(documents: Iterable[Document]) -> Iterator[Document]:
    """Clean each document's text with `clean_text`."""
    for document in documents:
        yield Document(clean_text(document.text), document.id, document.source)


def drop_short(documents: Iterable[Document], *, min_characters: int, tally: Tally) -> Iterator[Document]:
    """Drop documents of fewer than `min_characters`; empty ones always (reasons `empty`, `too_short`)."""
    for document in documents:
        if not document.text:
            tally.dropped("empty", document)
        elif len(document.text) < min_characters:
            tally.dropped("too_short", document)
        else:
            yield document


def clean_text(text: str) -> str:
    """Repair encoding, Unicode form, control characters, line endings and blanks.

    In this order: lone surrogates become `?`; text decoded with the wrong encoding is decoded again (ftfy); line
    endings become `\\n`; terminal escapes, control, zero-width and direction characters are removed; NFKC; blanks at
    line ends are removed; more than two blank lines become two; blank lines around the text are removed.
    Indentation, tabs, quotes and HTML entities stay. Cleaning clean text changes nothing.

    Raises:
        MissingDependencyError: the text is not ASCII, and ftfy is not installed.
    """
    for _ in range(_MAX_PASSES):
        cleaned = _clean_ascii(text) if text.isascii() else _clean_unicode(text)
        if cleaned == text or cleaned.isascii():
            return cleaned
        text = cleaned
    return text


def _clean_ascii(text: str) -> str:
    return _tidy_blanks(_remove_odd(text))


def _clean_unicode(text: str) -> str:
    text = _SURROGATES.sub("?", text)
    text = _repair_encoding(text)
    text = _remove_odd(text)
    return _tidy_blanks(unicodedata.normalize("NFKC", text))


def _repair_encoding(text: str) -> str:
    """Undo wrong decodings (mojibake), line by line, as ftfy recommends."""
    if not _maybe_mojibake(text):
        return text
    fix_encoding, fix_c1_controls = _ftfy()
    lines = (fix_encoding(line) if _maybe_mojibake(line) else line for line in text.split("\n"))
    return fix_c1_controls("\n".join(lines))


def _maybe_mojibake(text: str) -> bool:
    return any(len(run) > 1 or run in _MOJIBAKE_LONERS for run in _BEYOND_ASCII.findall(text))


@functools.cache
def _ftfy() -> tuple[Callable[[str], str], Callable[[str], str]]:
    try:
        import ftfy
        from ftfy.fixes import fix_c1_controls
    except ImportError:
        raise missing_extra("ftfy", "data", needed_for="cleaning text that is not ASCII") from None
    return ftfy.fix_encoding, fix_c1_controls


def _remove_odd(text: str) -> str:
    if not _ODD.search(text):
        return text
    return _ODD.sub("", _TERMINAL_ESCAPES.sub("", _LINE_ENDINGS.sub("\n", text)))


def _tidy_blanks(text: str) -> str:
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    if "\n\n\n\n" in text:
        text = _MANY_BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n")
