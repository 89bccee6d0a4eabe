"""Pieces of Markdown that hold any text: tables, code, and what must not become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterable, Sequence
from urllib.parse import quote

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ALL_BUT_FIRST = range(1, 100)
_MARKUP = re.compile(r"([\\`*_\[\]|~]|(?:^|(?<= ))#(?=#* |#*$)|^[-+](?=[- ]|$))")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?= |$)")
_NOT_IN_ADDRESS = re.compile(r"[\s<>()|\\`\"\[\]]")


def plain(text: str) -> str:
    """Return a text as one line that reads as it is written: nothing in it is markup, at its beginning either."""
    line = html.escape(" ".join(_clean(text).split()), quote=False)
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", line))


def link(text: str, address: str) -> str:
    """Return a text that leads to an address; the text alone where there is none."""
    target = _NOT_IN_ADDRESS.sub(lambda found: quote(found[0]), _clean(address.strip()))
    return f"[{plain(text)}]({html.escape(target, quote=False)})" if target else plain(text)


def code(text: str, *, in_table: bool = True) -> str:
    """Return a text as one span of code, whatever backticks it has; line breaks are shown as in Python's strings.

    Args:
        text: of the span.
        in_table: it stands in a cell, where a bar is escaped; elsewhere the backslash would be seen.
    """
    shown = _clean(text).replace("\n", "\\n").replace("\t", "\\t")
    if in_table:
        shown = shown.replace("|", "\\|")
    if not shown:
        return "(empty)"
    fence = _fence(shown, 1)
    needs_space = shown[0] in " `" or shown[-1] in " `"
    return f"{fence} {shown} {fence}" if needs_space else f"{fence}{shown}{fence}"


def fenced(text: str, language: str = "") -> str:
    """Return a text as a block of code that no line of it can end."""
    shown = _clean(text).rstrip("\n")
    fence = _fence(shown, 3)
    return f"{fence}{language}\n{shown}\n{fence}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Container[int] = _ALL_BUT_FIRST) -> str:
    """Return a table.

    Args:
        heads: of the columns.
        rows: cells that are Markdown already; their bars must be escaped.
        numbers: places of the columns that are aligned to the right.
    """
    ends = ["---:" if place in numbers else "---" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ends, *rows))


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values; rows without a value are left out."""
    return table(("", ""), ((name, value) for name, value in rows if value), numbers=())


def bullets(lines: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {line}" for line in lines)


def paragraphs(*parts: str) -> str:
    """Join what is not empty, with empty lines between."""
    return "\n\n".join(part for part in parts if part)


def time_shown(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    # What would be rounded up to a whole unit is written in it.
    for size, unit, least in ((3600, "h", 3600 - 0.3), (60, "min", 60 - 0.05)):
        if seconds >= least:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds:.1f} s"


def amount_shown(amount: float) -> str:
    """Write an amount with the three digits that mean something, a large one as a whole number."""
    return f"{amount:,.0f}" if amount >= 999.5 else f"{amount:.3g}"


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def _fence(text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(least, longest + 1)
