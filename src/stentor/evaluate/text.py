"""A model and a text become numbers: loss in nats per token, perplexity, bits per byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from stentor.errors import UserError
from stentor.model.measure import Evaluation, Progress, measure
from stentor.runtime.engine import LanguageModel, load
from stentor.runtime.open import exact_dtype
from stentor.tokenizer.base import Losses, Tokenizer

_DOCUMENTS_AT_ONCE = 256


def evaluate(
    model: LanguageModel | str | Path, texts: Iterable[str | bytes], *, on_progress: Progress | None = None
) -> Evaluation:
    """Measure a model on raw documents, in order and uncleaned; the definition stands in `stentor.model.measure`.

    Args:
        model: a loaded model, measured as it computes; or the path or Hub id of one, measured in float32,
            or in the dtype of its file where that is an ONNX graph.
        texts: the documents.
        on_progress: called with (tokens scored, tokens in all).

    Raises:
        UserError: the model has no tokenizer, or there is no text.
    """
    if not isinstance(model, LanguageModel):
        model = load(model, dtype=exact_dtype(model), device="auto")
    encoded = encode_some(model.tokenizer, texts)
    return measure(
        model.network,
        encoded.token_ids,
        num_bytes=encoded.num_bytes,
        eos_token_id=model.tokenizer.eos_token_id,
        losses=encoded.losses,
        on_progress=on_progress,
    )


@dataclass(frozen=True, slots=True)
class EncodedDocuments:
    """Documents as ids.

    Attributes:
        token_ids: of all documents, each followed by EOS.
        num_bytes: UTF-8 bytes of their raw text.
        losses: what the ids do not give back of it.
        document_bytes: bytes of each document.
    """

    token_ids: np.ndarray
    num_bytes: int
    losses: Losses
    document_bytes: list[int]


def encode_some(tokenizer: Tokenizer, texts: Iterable[str | bytes]) -> EncodedDocuments:
    """Encode documents as `encode_documents` does.

    Raises:
        UserError: there is no text in them.
    """
    encoded = encode_documents(tokenizer, texts)
    if encoded.num_bytes == 0:
        raise UserError(
            "there is no text to evaluate on", fix="pass a source with at least one document that is not empty"
        )
    return encoded


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str | bytes]) -> EncodedDocuments:
    """Encode each document alone and count its raw bytes."""
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    pieces: list[np.ndarray] = [np.empty(0, dtype=dtype)]
    document_bytes, losses = list[int](), Losses()
    for batch in _batches(texts):
        encoded = tokenizer.encode_batch(batch)
        document_bytes += [len(text) for text in batch]
        losses += tokenizer.losses(batch, encoded)
        pieces += [np.array([*ids, tokenizer.eos_token_id], dtype=dtype) for ids in encoded]
    return EncodedDocuments(np.concatenate(pieces), sum(document_bytes), losses, document_bytes)


def _batches(texts: Iterable[str | bytes]) -> Iterator[list[bytes]]:
    """Group documents, as UTF-8; a lone surrogate becomes what `errors="replace"` makes of it."""
    iterator = iter(texts)
    while batch := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        yield [text if isinstance(text, bytes) else text.encode(errors="replace") for text in batch]
