"""What our pages share: one HTML file each, that loads nothing, escapes every text, and follows the reader's theme."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from importlib import resources
from string import Template

from stentor.report.curves import TRAIN, VALIDATION
from stentor.report.drawing import CARD, GRID, INK, MUTED
from stentor.version import __version__

_COLOURS = {CARD: "card", INK: "ink", MUTED: "muted", GRID: "grid", VALIDATION: "model", TRAIN: "train"}
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def render(*, kind: str, name: str, description: str, result: str, sections: Iterable[str]) -> str:
    """Return a whole page, for wide and narrow, light and dark screens.

    Args:
        kind: what page it is, in a few words.
        name: its heading, any text.
        description: a sentence below, any text.
        result: what matters most, as HTML.
        sections: the rest, as HTML; empty ones are left out.
    """
    template = Template(resources.files("stentor.report").joinpath("page.html").read_text(encoding="ascii"))
    return template.substitute(
        kind=escaped(kind),
        name=escaped(name),
        description=escaped(description),
        result=result,
        sections="\n".join(filter(None, sections)),
        version=escaped(__version__),
    )


def escaped(text: str) -> str:
    """Make any text safe and valid in HTML; characters that HTML forbids become U+FFFD."""
    return html.escape(_UNWRITABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def section(title: str, body: str) -> str:
    """Return a section of a page, which its title names."""
    anchor = re.sub(r"\W+", "-", title.lower())
    return f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{title}</h2>\n{body}\n</section>'


def inline(picture: bytes, prefix: str, label: str) -> str:
    """Return an SVG as an element of the page: named, in the page's colours, its ids its own."""
    svg = picture.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, name in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escaped(label)}"', 1).strip()
