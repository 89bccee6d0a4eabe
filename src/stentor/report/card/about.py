"""What no program can know of a model: who made it, under which licence, from which text. Read from a TOML file."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from stentor.errors import UserError, nearest_name

ABOUT_NAME = "card.toml"
ROLES = ("training", "tokenizer", "evaluation")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_KINDS = {str: "a string", int: "a whole number", float: "a number", tuple: "a list of strings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A text that the model was made from or measured on.

    Attributes:
        name: for people.
        role: one of `ROLES`.
        license: its identifier, such as `cc-by-sa-4.0`; empty where it is not known.
        dataset: its id on the Hugging Face Hub.
        url: where it is.
        num_documents: 0 where nobody counted.
        num_bytes: of its text; 0 where nobody counted.
        note: what else a reader should know.
    """

    name: str = ""
    role: str = "training"
    license: str = ""
    dataset: str = ""
    url: str = ""
    num_documents: int = 0
    num_bytes: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("a [[data]] of the card has no name", fix='add name = "..."')
        if self.role not in ROLES:
            raise UserError(f"data.role is {self.role!r}", fix=nearest_name(self.role, ROLES))
        if self.dataset and not _REPO.fullmatch(self.dataset):
            raise UserError(f"data.dataset is {self.dataset!r}, no id of the Hub", fix="write it like org/name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What turns time into energy, and energy into carbon; 0 stands for what is not known.

    Attributes:
        watts: that one device draws, where the table of devices has it not or has it otherwise.
        num_devices: that trained, where the log does not say so.
        pue: power usage effectiveness of the data centre: what it draws for each unit that its computers do.
        kg_co2e_per_kwh: of the grid.
        source: where these numbers are from.
        region: where the devices stood.
        provider: whose they were.
    """

    watts: float = 0.0
    num_devices: int = 0
    pue: float = 1.0
    kg_co2e_per_kwh: float = 0.0
    source: str = ""
    region: str = ""
    provider: str = ""

    def __post_init__(self) -> None:
        if self.pue < 1:
            raise UserError(f"energy.pue is {self.pue}", fix="use 1 or more")
        if (self.watts or self.kg_co2e_per_kwh) and not self.source:
            raise UserError("energy has numbers, and no source of them", fix='add source = "where they are from"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A related work: a paper, a model, a program."""

    title: str = ""
    url: str = ""
    relevance: str = ""

    def __post_init__(self) -> None:
        if not (self.title and self.url):
            raise UserError("a [[related]] of the card has no title or no url", fix="add both")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a maker says of a model; what is empty or 0 is not said.

    Attributes:
        name: of the model, for people.
        summary: a sentence or two.
        author: who is cited.
        publisher: who publishes it.
        year: of publication.
        license: of the weights: an identifier of the Hub's, or `other`.
        license_name: of one that is `other`.
        license_link: where its text is.
        languages: codes of ISO 639, such as `en`.
        repo: id on the Hugging Face Hub.
        contact: where to write to.
        tags: to find it by.
        limits: that were seen while using it, a sentence each.
        data: texts.
        related: works.
        energy: power and carbon.
    """

    name: str = ""
    summary: str = ""
    author: str = ""
    publisher: str = ""
    year: int = 0
    license: str = ""
    license_name: str = ""
    license_link: str = ""
    languages: tuple[str, ...] = ()
    repo: str = ""
    contact: str = ""
    tags: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    data: tuple[DataSource, ...] = ()
    related: tuple[Work, ...] = ()
    energy: Power = field(default_factory=Power)

    def __post_init__(self) -> None:
        if self.repo and not _REPO.fullmatch(self.repo):
            raise UserError(f"repo is {self.repo!r}, no id of the Hub", fix="write it like org/name")
        for language in self.languages:
            if not _LANGUAGE.fullmatch(language):
                raise UserError(f"languages has {language!r}", fix="use codes of ISO 639, such as en")
        if self.license == "other" and not self.license_name:
            raise UserError("license is 'other', and has no name", fix='add license_name = "..." and license_link')

    def of_role(self, role: str) -> list[DataSource]:
        """Return the texts of one role, in order."""
        return [source for source in self.data if source.role == role]


def read_about(path: Path) -> About:
    """Read what a maker says of a model.

    Raises:
        UserError: the file cannot be read, or a key or value of it is wrong; it is named.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}", fix="mend that line") from None
    try:
        nested = {
            "data": tuple(_record(DataSource, one, "data") for one in _list(body.pop("data", []), "data")),
            "related": tuple(_record(Work, one, "related") for one in _list(body.pop("related", []), "related")),
            "energy": _record(Power, body.pop("energy", {}), "energy"),
        }
        return _record(About, body, "", **nested)
    except UserError as error:
        raise UserError(f"{path}: {error.message}", fix=error.fix) from None


_Made = TypeVar("_Made", DataSource, Power, Work, About)


def _record(made: type[_Made], body: Any, section: str, **nested: Any) -> _Made:
    """Make a record of a TOML table, whose keys and types are checked."""
    if not isinstance(body, dict):
        raise UserError(f"{section} is a section, not a value", fix=f"write [{section}] and its keys below")
    # The one default that is made anew, `energy`, is a section and never among the keys.
    known = {one.name: type(one.default) for one in fields(made) if one.name not in ("data", "related", "energy")}
    values = {}
    for key, value in body.items():
        name = f"{section}.{key}" if section else key
        if key not in known:
            raise UserError(f"there is no key {name}", fix=nearest_name(key, known))
        values[key] = _converted(name, value, known[key])
    return made(**values, **nested)


def _converted(name: str, value: Any, wanted: type) -> Any:
    if wanted is tuple and isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise UserError(f"{name} is {value!r}, not {_KINDS[wanted]}", fix=f"give {_KINDS[wanted]}")
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
        raise UserError(f"{name} is {value}", fix="use a number that is not below zero")
    return value


def _list(value: Any, section: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise UserError(f"{section} is not a list", fix=f"write [[{section}]] before the keys of each")
    return value
