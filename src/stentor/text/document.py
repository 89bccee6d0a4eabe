"""The unit of stage 1, a document, and the count of what became of every one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its origin.

    Attributes:
        text: the text itself.
        id: names the document within its source; stable from run to run.
        source: where it came from: a file, a dataset, or what the file itself says.
    """

    text: str
    id: str
    source: str

    @property
    def num_bytes(self) -> int:
        """Return the size of the text in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode(errors="replace"))


@dataclass(slots=True)
class Tally:
    """Counts documents and bytes kept, and dropped by reason; nothing disappears without one.

    Attributes:
        notes: what a reader of the manifest should know, one sentence each.
    """

    kept_documents: int = 0
    kept_bytes: int = 0
    dropped_documents: Counter[str] = field(default_factory=Counter)
    dropped_num_bytes: Counter[str] = field(default_factory=Counter)
    repaired_documents: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def kept(self, document: Document) -> None:
        """Count a document that is in the output."""
        self.kept_documents += 1
        self.kept_bytes += document.num_bytes

    def dropped(self, reason: str, document: Document) -> None:
        """Count a document that is not in the output."""
        self.dropped_bytes(reason, document.num_bytes)

    def dropped_bytes(self, reason: str, num_bytes: int) -> None:
        """Count something that never became a document, such as a line that is not JSON."""
        self.dropped_documents[reason] += 1
        self.dropped_num_bytes[reason] += num_bytes

    def repaired(self, what: str) -> None:
        """Count a document that was mended while it was read."""
        self.repaired_documents[what] += 1

    def note(self, sentence: str) -> None:
        """Keep a sentence for the manifest."""
        self.notes.append(sentence)

    @property
    def num_read(self) -> int:
        """Return how many documents were met in all."""
        return self.kept_documents + self.dropped_documents.total()

    def reasons(self) -> str:
        """Return the drops as words: `2 duplicate, 1 too_short`."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped_documents.items())) or "none"

    def summary(self) -> dict[str, Any]:
        """Return all counts as plain values for a manifest."""
        return {
            "kept": {"num_documents": self.kept_documents, "num_text_bytes": self.kept_bytes},
            "dropped": {
                reason: {"num_documents": count, "num_text_bytes": self.dropped_num_bytes[reason]}
                for reason, count in sorted(self.dropped_documents.items())
            },
            "repaired": dict(sorted(self.repaired_documents.items())),
            "notes": list(self.notes),
        }
