"""What a model's card says of it, licence first: read from the source of an export, and written into what is made.

A folder has it in the YAML at the top of its README.md, as the Hugging Face Hub reads it; a GGUF file under
`general.*`, as its specification names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stentor.errors import UserError
from stentor.model.gguf_header import read_header
from stentor.model.locate import is_gguf

README_NAME = "README.md"
DESCRIPTION_KEY = "general.description"
_FENCE = "---"
_LONGEST_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a model besides its numbers; all of it may be missing.

    Attributes:
        license: its identifier, such as `apache-2.0`.
        license_name: of one that has no identifier (`other`).
        license_link: where its text is.
        description: some sentences.
        languages: codes such as `en`.
        tags: words to find it by.
    """

    license: str = ""
    license_name: str = ""
    license_link: str = ""
    description: str = ""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def gguf_metadata(self) -> dict[str, str | list[str]]:
        """Return what is known, under the names of the GGUF specification."""
        texts = {name: getattr(self, name.replace(".", "_")) for name in _GGUF_TEXTS}
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {f"general.{name}": value for name, value in {**texts, **lists}.items() if value}

    def front_matter(self) -> str:
        """Return what is known as the top of a README.md; nothing where nothing is.

        The description is there even if it is empty, lest the README's first words be taken for it.
        """
        import yaml

        if self == About():
            return ""
        lists = {"language": list(self.languages), "tags": list(self.tags)}
        texts = {name: getattr(self, name) for name in ("license", "license_name", "license_link")}
        known = {name: value for name, value in {**texts, **lists}.items() if value}
        top = yaml.safe_dump({**known, "description": self.description}, allow_unicode=True)
        return f"{_FENCE}\n{top}{_FENCE}\n"

    def readme(self, name: str) -> str:
        """Return a whole README.md for a folder of that name; nothing where nothing is known."""
        return f"{self.front_matter()}# {name}\n\n{self.description}\n" if self != About() else ""


_GGUF_TEXTS = ("license", "license.name", "license.link", "description")
_LISTS = ("languages", "tags")


def read_about(origin: Path) -> About:
    """Read what a model folder or a .gguf file says of its model.

    Raises:
        UserError: the README's metadata is no YAML table, so that a licence could get lost.
    """
    if is_gguf(origin):
        metadata = read_header(np.memmap(origin, np.uint8, mode="r").view(np.ndarray), origin).metadata
        texts = {name.replace(".", "_"): _text(metadata.get(f"general.{name}")) for name in _GGUF_TEXTS}
        languages, tags = (_texts(metadata.get(f"general.{name}")) for name in _LISTS)
        return About(**texts, languages=languages, tags=tags)
    try:
        card = (origin / README_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return About()
    table, body = _parsed(card, origin / README_NAME)
    if not table:
        return About()
    return About(
        license=_text(table.get("license")),
        license_name=_text(table.get("license_name")),
        license_link=_text(table.get("license_link")),
        description=_text(table["description"]) if "description" in table else _first_paragraph(body),
        languages=_texts(table.get("language")),
        tags=_texts(table.get("tags")),
    )


def _parsed(card: str, where: Path) -> tuple[dict[str, Any], str]:
    """Return the table at the top of a card, and the text below it."""
    import yaml

    lines = card.splitlines()
    if not lines or lines[0].rstrip() != _FENCE or _FENCE not in (line.rstrip() for line in lines[1:]):
        return {}, card
    end = next(index for index, line in enumerate(lines) if index and line.rstrip() == _FENCE)
    try:
        # Every value is text: `no` is a language.
        table = yaml.load("\n".join(lines[1:end]), yaml.BaseLoader) or {}
    except (yaml.YAMLError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise UserError(
            f"the metadata at the top of {where} is no YAML table", fix="mend what stands between its two lines of ---"
        )
    return table, "\n".join(lines[end + 1 :])


def _first_paragraph(body: str) -> str:
    paragraphs = (" ".join(paragraph.split()) for paragraph in body.split("\n\n"))
    plain = (text for text in paragraphs if text and not text.startswith(("#", "|", "`", "<", "!", "-", ">")))
    return next(plain, "")[:_LONGEST_DESCRIPTION]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()
