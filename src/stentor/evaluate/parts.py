"""Where a model's loss comes from: document by document, and by the position of a token in the context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.evaluate.text import EncodedDocuments, encode_some
from stentor.model.measure import Evaluation, Progress, Scorer, bits_per_byte, stream_nats
from stentor.runtime.engine import LanguageModel
from stentor.tokenizer.base import Tokenizer

_WINDOWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text.

    Attributes:
        name: of a document its place in the text, from 0; of positions their range, such as `16-31`.
        nats: sum of -ln p of its tokens.
        num_tokens: scored tokens; the EOS behind a document counts.
        num_bytes: of the raw text. Those of positions are their share of all, by the bytes that their tokens spell.
    """

    name: str
    nats: float
    num_tokens: int
    num_bytes: float

    @property
    def bits_per_byte(self) -> float | None:
        """None for a part without a byte, such as an empty document."""
        return bits_per_byte(self.nats, self.num_bytes) if self.num_bytes else None  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        loss_nats = self.nats / self.num_tokens
        return {
            "loss_nats": loss_nats,
            "perplexity": float(np.exp(min(loss_nats, 700))),
            "bits_per_byte": self.bits_per_byte,
            "num_tokens": self.num_tokens,
            "num_bytes": round(self.num_bytes, 1) if self.num_bytes % 1 else int(self.num_bytes),
        }


@dataclass(frozen=True, slots=True)
class Parts:
    """A text's loss, whole and in parts, each of which adds up to the whole.

    Attributes:
        whole: as `evaluate` gives it.
        documents: in order.
        positions: ranges of a token's position in its window, counted from 0: so many tokens of it stand before.
    """

    whole: Evaluation
    documents: list[Part]
    positions: list[Part]


def evaluate_parts(
    model: LanguageModel,
    texts: Iterable[str | bytes],
    *,
    stride: int | None = None,
    on_progress: Progress | None = None,
) -> Parts:
    """Measure a model on raw documents, whole and in parts.

    Args:
        model: measured as it computes.
        texts: the documents.
        stride: tokens from one window to the next; where windows overlap, the part that a window shares with the one
            before is read and not scored. None, as the context length, lets no windows overlap.
        on_progress: called with (tokens scored, tokens in all).

    Raises:
        UserError: there is no text, or the stride is not within the context.
    """
    context_length = model.network.config.max_position_embeddings
    if stride is not None and not 1 <= stride <= context_length:
        raise UserError(
            f"the stride is {stride}, and the model's context {context_length} tokens",
            fix=f"use a stride from 1 to {context_length}",
        )
    encoded, eos_token_id = encode_some(model.tokenizer, texts), model.tokenizer.eos_token_id
    nats = np.empty(len(encoded.token_ids))
    done, total_nats = 0, 0.0
    for piece in strided_nats(model.network, encoded.token_ids, eos_token_id, stride or context_length):
        nats[done : done + len(piece)] = piece
        done, total_nats = done + len(piece), total_nats + float(piece.sum())
        if on_progress:
            on_progress(done, len(nats))
    whole = Evaluation.from_total(total_nats, num_tokens=len(nats), num_bytes=encoded.num_bytes, losses=encoded.losses)
    places = positions_of(len(nats), context_length, stride or context_length)
    return Parts(whole, _documents(encoded, nats, eos_token_id), _positions(encoded, nats, places, model.tokenizer))


def strided_nats(network: Scorer, token_ids: np.ndarray, eos_token_id: int, stride: int) -> Iterator[NDArray]:
    """Yield -ln p of each token of a stream in order; windows of the context's length begin `stride` tokens apart."""
    length, batch_size = network.config.max_position_embeddings, _WINDOWS_AT_ONCE
    if stride == length:
        yield from stream_nats(network, token_ids, eos_token_id=eos_token_id, batch_size=batch_size)
        return
    yield from stream_nats(network, token_ids[:length], eos_token_id=eos_token_id)
    inputs, steps = np.concatenate(([eos_token_id], token_ids[:-1])), _steps(len(token_ids), length, stride)
    for first in range(0, len(steps), batch_size):
        batch = steps[first : first + batch_size]
        inputs_BT, targets_BT = (
            np.stack([of[end - length : end] for _, end in batch]).astype(np.int64) for of in (inputs, token_ids)
        )
        nats_BT = network.window_nats(inputs_BT, targets_BT)
        for (start, end), nats_T in zip(batch, nats_BT, strict=True):
            yield nats_T[start - end :].astype(np.float64)


def positions_of(num_tokens: int, context_length: int, stride: int) -> NDArray[np.int64]:
    """Return the position in its window of each token of a stream that `strided_nats` scores."""
    if stride == context_length:
        return np.arange(num_tokens) % context_length
    later = (
        np.arange(context_length - (end - start), context_length)
        for start, end in _steps(num_tokens, context_length, stride)
    )
    return np.concatenate([np.arange(min(num_tokens, context_length)), *later])


def _steps(num_tokens: int, context_length: int, stride: int) -> list[tuple[int, int]]:
    """Return the first token and the end of what each window but the first scores."""
    bounds = [*range(context_length, num_tokens, stride), num_tokens]
    return list(pairwise(bounds))


def _documents(encoded: EncodedDocuments, nats: NDArray[np.float64], eos_token_id: int) -> list[Part]:
    ends = np.flatnonzero(encoded.token_ids == eos_token_id) + 1
    assert len(ends) == len(encoded.document_bytes)  # no text spells an EOS
    starts = np.concatenate(([0], ends[:-1]))
    sums = np.add.reduceat(nats, starts)
    return [
        Part(str(index), float(total), int(end - start), num_bytes)
        for index, (total, start, end, num_bytes) in enumerate(
            zip(sums, starts, ends, encoded.document_bytes, strict=True)
        )
    ]


def _positions(
    encoded: EncodedDocuments, nats: NDArray[np.float64], places: NDArray[np.int64], tokenizer: Tokenizer
) -> list[Part]:
    """Add up ranges of positions, each twice as wide as the one before."""
    spelt = np.array([len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)])
    lengths = spelt[encoded.token_ids]
    scale = encoded.num_bytes / max(1, int(lengths.sum()))
    parts, first = [], 0
    while first <= places.max():
        last = max(0, 2 * first - 1)
        chosen = (places >= first) & (places <= last)
        name = str(first) if first == last else f"{first}-{last}"
        parts.append(Part(name, float(nats[chosen].sum()), int(chosen.sum()), scale * int(lengths[chosen].sum())))
        first = last + 1
    return [part for part in parts if part.num_tokens]
