"""How far an export, as its consumer reads it, is from our own model; and the limits it must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError

NOT_KEPT = "nothing was kept; this is a fault of the export, please report it with the model's config.json"
_SHOWN_IDS = 12


@dataclass(frozen=True, slots=True)
class Agreement:
    """Distance between two models' predictions of the next token at the same positions.

    Attributes:
        max_logit_difference: largest difference of any two logits, after each position's mean is removed.
        mean_kl_nats: Kullback-Leibler divergence KL(ours || theirs), averaged over positions.
        max_kl_nats: the same at the worst position.
    """

    max_logit_difference: float
    mean_kl_nats: float
    max_kl_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the consumer was seen to do with an export.

    Attributes:
        consumer: the program and its version.
        num_strings: strings whose token ids were equal: to ours, or to those of a mapped tokenizer.
        num_tokens: tokens whose bytes were equal; zero where the consumer does not tell them.
        num_positions: positions whose next-token distribution was compared, each over the whole vocabulary.
        stored: against our model with the same stored weights and the consumer's rounding: is the file right?
        original: against the model that was exported, in float32: what does this dtype cost?
    """

    consumer: str
    num_strings: int
    num_tokens: int
    num_positions: int
    stored: Agreement
    original: Agreement


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How far llama.cpp's cut of a text is from the one the model was trained on.

    Attributes:
        equal_strings: share of the mixed strings that get exactly our ids.
        similarity: of its ids to ours over the sample, from 0 to 1: ids in common and in order, over the mean number.
        bits_per_byte: of the model on the sample, cut like this.
    """

    equal_strings: float
    similarity: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedTokenizer:
    """What is lost where a consumer cannot have the model's own tokenizer.

    Attributes:
        kind: the consumer's tokenizer that comes closest.
        sample: the text that was measured on, as a source.
        num_bytes: of the sample.
        num_strings: mixed strings that were compared.
        bits_per_byte: of the model on the sample with its own ids.
        raw: text as users of the consumer type it.
        prepared: text that Stentor has decomposed and capcoded before.
    """

    kind: str
    sample: str
    num_bytes: int
    num_strings: int
    bits_per_byte: float
    raw: Segmentation
    prepared: Segmentation

    def to_metadata(self) -> dict[str, Any]:
        """Return the numbers by a name of their own, and in words, as a GGUF file keeps them."""
        body = asdict(self)
        flat = {f"{name}.{key}": value for name in ("raw", "prepared") for key, value in body.pop(name).items()}
        numbers = {f"stentor.mapped_tokenizer.{name}": value for name, value in {**body, **flat}.items()}
        return {"general.description": self.in_words(), **numbers}

    def in_words(self) -> str:
        """Say what a user must know."""
        return (
            f"Trained with a TokenMonster vocabulary, which llama.cpp does not have. This file carries the closest "
            f"mapping ({self.kind}: longest match on raw text): its token ids are not the model's own. Typed text: "
            f"similarity of ids {self.raw.similarity:.3f}, {self.raw.bits_per_byte:.3f} bits per byte instead of "
            f"{self.bits_per_byte:.3f}; text prepared by Stentor: {self.prepared.similarity:.3f} and "
            f"{self.prepared.bits_per_byte:.3f}. Exact: encode and decode with Stentor and pass token ids."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A smaller form of the model, beside the one that was proven.

    Attributes:
        original: against the model that was exported, in float32: what does it cost?
    """

    path: str
    dtype: str
    size_bytes: int
    original: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """An export that was kept.

    Attributes:
        proof: None where no consumer was installed to prove it.
        mapped_tokenizer: what is lost where the format cannot carry the model's own tokenizer; None where it can.
        variants: smaller forms that were written beside it.
        remark: what else its users must know.
    """

    path: str
    format: str
    dtype: str
    size_bytes: int
    proof: Proof | None
    mapped_tokenizer: MappedTokenizer | None = None
    variants: tuple[Variant, ...] = ()
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, and `verified`."""
        return {**asdict(self), "verified": self.proof is not None}


def compare_logits(ours_PV: NDArray[np.float32], theirs_PV: NDArray[np.float32]) -> Agreement:
    """Compare logits, or log-probabilities, at P positions over a vocabulary of V.

    A position's constant offset cannot be told from log-probabilities and does not change them; it is left out.
    """
    ours, theirs = ours_PV.astype(np.float64), theirs_PV.astype(np.float64)
    difference = (ours - ours.mean(axis=1, keepdims=True)) - (theirs - theirs.mean(axis=1, keepdims=True))
    log_p, log_q = _log_softmax(ours), _log_softmax(theirs)
    kl_P = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return Agreement(float(np.abs(difference).max()), float(kl_P.mean()), float(kl_P.max()))


def require_equal_ids(
    strings: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[list[int]], *, consumer: str
) -> None:
    """Refuse an export whose consumer turns a string into other token ids than we do.

    Raises:
        UserError: how many strings differ, and the first of them.
    """
    different = [index for index in range(len(strings)) if ours[index] != theirs[index]]
    if different:
        first = different[0]
        raise UserError(
            f"{consumer} gives other token ids for {len(different)} of {len(strings)} strings, the first being "
            f"{strings[first]!r:.200}: ours {_shown(ours[first])}, theirs {_shown(theirs[first])}",
            fix=NOT_KEPT,
        )


def require_within(what: str, value: float, limit: float, *, consumer: str) -> None:
    """Refuse an export whose distance `what` is above its limit, or not a number."""
    if not value <= limit:
        raise UserError(
            f"{consumer} disagrees with the model: {what} is {value:.3g}, at most {limit:.3g}", fix=NOT_KEPT
        )


def _log_softmax(logits_PV: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits_PV - logits_PV.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _shown(ids: list[int]) -> str:
    return str(ids) if len(ids) <= _SHOWN_IDS else f"{str(ids[:_SHOWN_IDS])[:-1]}, ...]"
