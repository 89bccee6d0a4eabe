"""Training text in one array: prepared as the encoder will see it, document by document, each with a 0 behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, kernel
from stentor.errors import UserError
from stentor.tokenizer.chunks import chunked
from stentor.tokenizer.tokenmonster.encoder import prepare_text
from stentor.tokenizer.tokenmonster.tables import UnicodeArrays, unicode_arrays

MAX_BYTES = 0xFFFFFFFF
"""Positions are kept in 32 bits."""
_CHUNK_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class PreparedText:
    """Documents as the tokens spell them.

    Attributes:
        data: all of them; a 0 stands behind each.
        starts: where each begins, and the end of the last.
        num_bytes: of the documents before they were prepared.
        sha256: of the prepared documents.
    """

    data: Bytes
    starts: NDArray[np.int64]
    num_bytes: int
    sha256: str

    @property
    def num_documents(self) -> int:
        """How many documents there are."""
        return self.starts.size - 1


def prepare_texts(texts: Iterable[str], *, capcode: int, num_workers: int, is_decomposed: bool = True) -> PreparedText:
    """Decompose and capcode documents; they are kept in memory, about as large as they are.

    Args:
        texts: documents.
        capcode: the level.
        num_workers: threads.
        is_decomposed: whether characters are decomposed canonically (NFD) first.

    Raises:
        UserError: there is no text, or more than 4 GB of it.
    """
    unicode = unicode_arrays()

    def prepare(chunk: list[str]) -> tuple[Bytes, NDArray[np.int64], int]:
        documents = [text.encode(errors="replace") for text in chunk]
        raw = np.frombuffer(b"".join(documents) + b"\0", np.uint8)
        starts = np.cumsum([0, *map(len, documents)], dtype=np.int64)
        data, lengths = _prepare_documents(raw, starts, capcode, unicode, is_decomposed)
        return data, lengths, raw.size - 1

    parts: list[Bytes] = []
    lengths: list[NDArray[np.int64]] = []
    num_bytes, digest = 0, hashlib.sha256()
    with ThreadPoolExecutor(num_workers) as pool:
        chunks = chunked(texts, _CHUNK_CHARACTERS)
        while group := [*islice(chunks, num_workers)]:  # `map` alone would read every text before the first is done
            for data, part_lengths, part_bytes in pool.map(prepare, group):
                parts.append(data)
                lengths.append(part_lengths)
                num_bytes += part_bytes
                digest.update(data.tobytes())
    if not num_bytes:
        raise UserError("there is no text to learn a vocabulary from", fix="check the source that was given")
    if sum(part.size for part in parts) > MAX_BYTES:
        raise UserError("the text has more than 4 GB", fix="learn from a part of it; 1 GB is already more than enough")
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return PreparedText(np.concatenate(parts), starts, num_bytes, digest.hexdigest())


@kernel
def _prepare_documents(
    raw: Bytes, starts: NDArray[np.int64], level: int, unicode: UnicodeArrays, is_decomposed: bool
) -> tuple[Bytes, NDArray[np.int64]]:
    """Return prepared documents, a 0 behind each, and their lengths, that 0 counted."""
    out, lengths, size = np.empty(raw.size + raw.size // 4 + 64, np.uint8), np.empty(starts.size - 1, np.int64), 0
    for document in range(lengths.size):
        prepared, length = prepare_text(raw, starts[document], starts[document + 1], unicode, level, is_decomposed)
        if size + length + 1 > out.size:
            larger = np.empty(2 * (size + length + 1), np.uint8)
            larger[:size] = out[:size]
            out = larger
        out[size : size + length + 1] = prepared[: length + 1]
        size += length + 1
        lengths[document] = length + 1
    return out[:size].copy(), lengths
