"""Markup and docstrings -> paragraphs of English prose: code, tables, directives and badges are left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAX_HEADING_CHARACTERS = 70
_MIN_WORDS = 6
_MIN_LETTER_SHARE = 0.7
_MIN_FUNCTION_WORD_SHARE = 0.12
_MAX_SYMBOL_SHARE = 0.06
_MIN_WRAPPED_CHARACTERS = 50
_ITEM = re.compile(r"\s*([-*+:@>]|\d+[.)]|[\w.]+ ?:)(\s|$)")
_WORD = re.compile(r"[A-Za-z']+")
_FUNCTION_WORD_LIST = """
    a after all also an and any are as at be because been before between both but by can could do does each for from had
    has have however if in into is it its may more must no not of on one only or other out over same should so such than
    that the their them then there these they this to use used using was we were what when where which while will with
    without would you your
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())
_SYMBOLS = re.compile(r"[=<>{}\[\]|\\/_#$%^&*~+@]")
_FENCED = re.compile(r"^(```|~~~).*?(?:^\1[^\n]*\n|\Z)", re.DOTALL | re.MULTILINE)
_HTML = re.compile(r"<!--.{0,2000}?-->|</?[a-zA-Z][a-zA-Z0-9]*(?:[\s/][^<>\n]*)?>", re.DOTALL)
_BLANK_LINES = re.compile(r"\n\s*\n")
_UNDERLINE = re.compile(r"^\s*([=\-~^\"'*+#`.:])\1{2,}\s*$")
_NOT_PROSE_LINE = re.compile(r"^\s*(>>> |\.\. |!\[|\[!\[|\[[^\]]+\]: |\|.*\||:[a-z]+:\s*$|\+[-=]+\+|[=\- ]{5,}$)")
# Bounded repeats: markup that is never closed must not cost quadratic time.
_SUBSTITUTIONS = [
    (
        re.compile(r":[a-zA-Z:+]{1,30}:`[~!]?([^`<]{0,200}?)\s*(?:<[^`>]{0,200}>)?`"),
        r"\1",
    ),  # :class:`Name`, :ref:`words <target>`
    (re.compile(r"`([^`<\n]{1,200}?)\s*<[^`>\n]{0,300}>`_{1,2}"), r"\1"),  # `words <address>`_
    (re.compile(r"\[`?~?([^\]`\n]{1,200}?)`?\]\([^)\s]{0,300}\)"), r"\1"),  # [words](address)
    (re.compile(r"\[`~?([^\]`\n]+)`\]"), r"\1"),  # [`Name`]
    (re.compile(r"``([^`\n]+)``"), r"\1"),
    (re.compile(r"(?<![\w`])`([^`\n]+)`_?(?![\w`])"), r"\1"),
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*\n]*)\*(?![\w*])"), r"\1"),
    (re.compile(r"^#{1,6} +", re.MULTILINE), ""),
    (re.compile(r"::$", re.MULTILINE), ":"),
]


def prose_paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text in Markdown, reStructuredText or a docstring's habits that read as English.

    A heading, or a sentence that ends in a colon, is kept only where such a paragraph follows it. Inline markup is
    taken off, and lines that were wrapped to fit a page are joined.
    """
    heading = ""
    for block in _BLANK_LINES.split(_HTML.sub("", _FENCED.sub("", text))):
        lines = [line for line in block.split("\n") if not _UNDERLINE.match(line)]
        is_markup = any(_NOT_PROSE_LINE.match(line) for line in lines)
        paragraph = "" if is_markup else _plain("\n".join(lines))
        if is_prose(paragraph) and not paragraph.endswith(":"):
            if heading:
                yield _unwrapped(heading)
            heading = ""
            yield _unwrapped(paragraph)
        else:
            heading = paragraph if _is_heading(paragraph) else ""


def is_prose(paragraph: str) -> bool:
    """Tell English sentences from code, tables, lists of names and other languages, by letters and function words."""
    words = _WORD.findall(paragraph)
    if len(words) < _MIN_WORDS:
        return False
    size = len(paragraph)
    num_letters = sum(map(len, words)) + paragraph.count(" ")
    num_function_words = sum(word.lower() in _FUNCTION_WORDS for word in words)
    return (
        num_letters >= _MIN_LETTER_SHARE * size
        and num_function_words >= _MIN_FUNCTION_WORD_SHARE * len(words)
        and len(_SYMBOLS.findall(paragraph)) <= _MAX_SYMBOL_SHARE * size
    )


def _is_heading(paragraph: str) -> bool:
    if paragraph.endswith(":"):
        return is_prose(paragraph)
    return (
        "\n" not in paragraph
        and 3 <= len(paragraph) <= _MAX_HEADING_CHARACTERS
        and paragraph[0].isalpha()
        and paragraph[-1] not in ".,;"
        and not _SYMBOLS.search(paragraph)
    )


def _plain(text: str) -> str:
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _unwrapped(paragraph: str) -> str:
    """Join lines of running text; items of lists, fields and short lines keep their own."""
    joined: list[str] = []
    before = ""
    for line in paragraph.split("\n"):
        if joined and _continues(before, line):
            joined[-1] += " " + line.lstrip()
        else:
            joined.append(line)
        before = line
    return "\n".join(joined)


def _continues(before: str, line: str) -> bool:
    """Whether a line goes on with the sentence of the one before, which then is as long as a wrapped line."""
    if len(before) < _MIN_WRAPPED_CHARACTERS or _ITEM.match(line):
        return False
    indent, indent_before = (len(text) - len(text.lstrip()) for text in (line, before))
    return indent == indent_before or (indent > indent_before and bool(_ITEM.match(before)))
