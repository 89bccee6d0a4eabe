"""Which documents are held out: `take:N`, `hash:FRACTION` or `file:SPEC`; exact duplicates never cross the line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from stentor.errors import UserError, nearest_name
from stentor.text.document import Document, Tally

SplitName = Literal["train", "validation"]
TRAIN: SplitName = "train"
VALIDATION: SplitName = "validation"
_KINDS = ("take", "hash", "file")
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How validation documents are chosen.

    Attributes:
        kind: `take`, `hash` or `file`.
        count: for `take`: the first so many documents that are kept.
        fraction: for `hash`: the share of documents, chosen by a hash of their text alone.
        spec: for `file`: the source that is the validation text, raw.
    """

    kind: str
    count: int = 0
    fraction: float = 0.0
    spec: str = ""

    @classmethod
    def parse(cls, text: str) -> HeldOut:
        """Read `take:N`, `hash:FRACTION` or `file:SPEC`.

        Raises:
            UserError: another kind, N below 1, or a fraction that is not between 0 and 1.
        """
        kind, _, value = text.strip().partition(":")
        if kind not in _KINDS:
            raise UserError(f"text.validation is {text!r}", fix=f"take:N, hash:FRACTION or file:SPEC; {_hint(kind)}")
        if kind == "file" and value:
            return cls(kind, spec=value)
        if kind == "take" and value.isascii() and value.isdigit() and int(value) > 0:
            return cls(kind, count=int(value))
        if kind == "hash" and 0 < _number(value) < 1:
            return cls(kind, fraction=_number(value))
        raise UserError(
            f"text.validation is {text!r}",
            fix="write take:2000 (documents), hash:0.02 (a share of them) or file:held-out.jsonl (a source)",
        )

    def choose(self, digest: bytes, num_validation: int) -> SplitName:
        """Return the side of a document that is new, given how many validation documents there are."""
        if self.kind == "take":
            return VALIDATION if num_validation < self.count else TRAIN
        if self.kind == "hash":
            return VALIDATION if int.from_bytes(digest[:8], "little") < self.fraction * 2**64 else TRAIN
        return TRAIN


@dataclass(slots=True)
class Splitter:
    """Sends clean documents to their side and drops exact duplicates, some 100 bytes of memory per document."""

    held_out: HeldOut
    tally: Tally
    _seen: dict[SplitName, set[bytes]] = field(default_factory=lambda: {TRAIN: set(), VALIDATION: set()})

    def hold_out(self, clean_text: str) -> None:
        """Keep the training side free of this text; for validation documents that come from a file of their own."""
        self._seen[VALIDATION].add(digest_of(clean_text))

    def split(self, documents: Iterable[Document]) -> Iterator[tuple[SplitName, Document]]:
        """Yield each new document with its side; repeated ones are dropped (`duplicate`, `in_validation`)."""
        for document in documents:
            digest = digest_of(document.text)
            side = self.held_out.choose(digest, len(self._seen[VALIDATION]))
            if digest in self._seen[VALIDATION]:
                self.tally.dropped("in_validation" if side == TRAIN else "duplicate", document)
            elif digest in self._seen[TRAIN]:
                self.tally.dropped("duplicate", document)
            else:
                self._seen[side].add(digest)
                yield side, document


def digest_of(text: str) -> bytes:
    """Return a digest of the text: equal texts are duplicates, and its first bytes choose the side."""
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=_DIGEST_BYTES).digest()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _hint(kind: str) -> str:
    return nearest_name(kind, _KINDS) if kind else "for example hash:0.02"
