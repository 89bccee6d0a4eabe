"""How much of an evaluation text a model may have seen in training, and what its bits per byte are without that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stentor.evaluate.overlap import NORMALISATION, NUM_WORDS, DocumentOverlap, OverlapIndex, Watch
from stentor.evaluate.parts import Part, evaluate_parts
from stentor.model.measure import Progress
from stentor.runtime.engine import LanguageModel

SHARES = (0.0, 0.1, 0.5, 0.9)
"""A document's overlap is counted above each of these."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Bits per byte of some documents; None where there are none, or where they have no byte."""

    bits_per_byte: float | None
    num_documents: int
    num_bytes: int

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Loss:
        """Add up documents."""
        whole = Part("", sum(part.nats for part in parts), 0, sum(part.num_bytes for part in parts))
        return cls(whole.bits_per_byte, len(parts), int(whole.num_bytes))


@dataclass(frozen=True, slots=True)
class Contamination:
    """What an evaluation text shares with a training text.

    Attributes:
        names: of the evaluation text's documents.
        overlaps: of each.
        num_training_documents: looked through.
        num_training_bytes: of their text.
        losses: of all documents, of those without overlap and of those with; None without a model.
    """

    names: list[str]
    overlaps: list[DocumentOverlap]
    num_training_documents: int
    num_training_bytes: int
    losses: dict[str, Loss] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        num_ngrams = sum(overlap.num_ngrams for overlap in self.overlaps)
        num_found = sum(overlap.num_found for overlap in self.overlaps)
        value: dict[str, Any] = {
            "num_words": NUM_WORDS,
            "normalisation": NORMALISATION,
            "num_documents": len(self.overlaps),
            "num_overlapping_documents": sum(not overlap.is_clean for overlap in self.overlaps),
            "num_short_documents": sum(not overlap.num_ngrams for overlap in self.overlaps),
            "num_ngrams": num_ngrams,
            "num_found_ngrams": num_found,
            "documents_above": {str(share): sum(o.share > share for o in self.overlaps) for share in SHARES},
            "num_training_documents": self.num_training_documents,
            "num_training_bytes": self.num_training_bytes,
        }
        if self.losses:
            value["losses"] = {
                name: {
                    "bits_per_byte": loss.bits_per_byte,
                    "num_documents": loss.num_documents,
                    "num_bytes": loss.num_bytes,
                }
                for name, loss in self.losses.items()
            }
        value["documents"] = [
            {"document": name, "num_ngrams": overlap.num_ngrams, "share": overlap.share}
            for name, overlap in zip(self.names, self.overlaps, strict=True)
        ]
        return value


def contamination(
    documents: Sequence[tuple[str, str]],
    training: Iterable[str],
    *,
    model: LanguageModel | None = None,
    on_training: Watch | None = None,
    on_evaluation: Progress | None = None,
) -> Contamination:
    """Look for an evaluation text's 13-grams in a training text, and measure a model with and without what is found.

    Args:
        documents: names and texts of the evaluation text.
        training: texts that a model was trained on; they stream through.
        model: is measured on the whole text in order, as `evaluate` does; the losses of documents are parts of that.
        on_training: called with (training documents read, bytes read).
        on_evaluation: called with (tokens scored, tokens in all).

    Raises:
        UserError: there is no text to evaluate.
    """
    index, num_read = OverlapIndex(text for _, text in documents), (0, 0)

    def watch(num_documents: int, num_bytes: int) -> None:
        nonlocal num_read
        num_read = num_documents, num_bytes
        if on_training:
            on_training(num_documents, num_bytes)

    index.look_in(training, on_progress=watch)
    overlaps, losses = index.overlaps(), None
    if model is not None:
        parts = evaluate_parts(model, (text for _, text in documents), on_progress=on_evaluation).documents
        losses = {
            "all": Loss.of(parts),
            "clean": Loss.of([part for part, found in zip(parts, overlaps, strict=True) if found.is_clean]),
            "overlapping": Loss.of([part for part, found in zip(parts, overlaps, strict=True) if not found.is_clean]),
        }
    return Contamination([name for name, _ in documents], overlaps, *num_read, losses)
