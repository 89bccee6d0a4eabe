"""A model and a text become numbers: loss in nats per token, perplexity, bits per byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from stentor.errors import UserError
from stentor.model.device import pick_device
from stentor.model.folder import ModelFolder, read_model_folder
from stentor.model.measure import Evaluation, Progress, measure
from stentor.tokenizer import Tokenizer

_DOCUMENTS_AT_ONCE = 256


def evaluate(
    model: ModelFolder | str | Path, texts: Iterable[str | bytes], *, on_progress: Progress | None = None
) -> Evaluation:
    """Measure a model on raw documents, in order and uncleaned; the definition stands in `stentor.model.measure`.

    Args:
        model: a folder already read, or the path or Hub id of one.
        texts: the documents.
        on_progress: called with (tokens scored, tokens in all).

    Raises:
        UserError: the model has no tokenizer, or there is no text.
    """
    folder = model if isinstance(model, ModelFolder) else read_model_folder(model)
    tokenizer = folder.require_tokenizer()
    token_ids, num_bytes = encode_documents(tokenizer, texts)
    if num_bytes == 0:
        raise UserError(
            "there is no text to evaluate on", fix="pass a source with at least one document that is not empty"
        )
    return measure(
        folder.build(pick_device()),
        token_ids,
        num_bytes=num_bytes,
        eos_token_id=tokenizer.eos_token_id,
        on_progress=on_progress,
    )


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str | bytes]) -> tuple[np.ndarray, int]:
    """Return the ids of all documents, each followed by EOS, and the UTF-8 bytes of their text."""
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    pieces: list[np.ndarray] = [np.empty(0, dtype=dtype)]
    num_bytes = 0
    for batch in _batches(texts):
        num_bytes += sum(len(text) for text in batch)
        for ids in tokenizer.encode_batch(batch):
            pieces.append(np.array([*ids, tokenizer.eos_token_id], dtype=dtype))
    return np.concatenate(pieces), num_bytes


def _batches(texts: Iterable[str | bytes]) -> Iterator[list[bytes]]:
    """Group documents, as UTF-8; a lone surrogate becomes what `errors="replace"` makes of it."""
    iterator = iter(texts)
    while batch := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        yield [text if isinstance(text, bytes) else text.encode(errors="replace") for text in batch]
