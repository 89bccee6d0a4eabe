"""Text to ids and back with compiled kernels: many texts in one call, on as many threads as wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import kernel
from stentor.tokenizer.tokenmonster import capcode, nfd
from stentor.tokenizer.tokenmonster.normalize import (
    ACCENTS,
    LOWERCASE,
    NFD,
    normalize,
    normalize_bytes,
)
from stentor.tokenizer.tokenmonster.table_cache import arrays_of
from stentor.tokenizer.tokenmonster.tables import UnicodeArrays, VocabArrays, unicode_arrays
from stentor.tokenizer.tokenmonster.vocab_file import VocabFile
from stentor.tokenizer.tokenmonster.walk import FULL, walk

MIN_BYTES_PER_THREAD = 1 << 16
"""Less work than this is done before a thread has started."""
_CAPCODE1_GROWTH, _NFD_GROWTH, _CAPCODE_GROWTH, _SLACK = 3, nfd.GROWTH, capcode.GROWTH, 64
_decompose, _is_nfd, _capcode1, _capcode2 = nfd.decompose, nfd.is_nfd, capcode.capcode1, capcode.capcode2


class Encoder:
    """A vocabulary ready to encode; it holds nothing but arrays, so any number of threads may share it."""

    def __init__(self, vocab: VocabFile) -> None:
        self.arrays = arrays_of(vocab)
        self._unicode = unicode_arrays()
        self._level = vocab.settings.capcode
        self._flags = vocab.settings.normalization

    def encode(self, texts: Sequence[bytes], num_threads: int | None = None) -> list[NDArray[np.uint32]]:
        """Return the ids of each text."""
        if not texts:
            return []
        texts = [self._unusual_steps(text) for text in texts]
        groups = _groups(texts, min(num_threads or os.cpu_count() or 1, len(texts)))
        if len(groups) == 1:
            return self._encode_group(groups[0])
        with ThreadPoolExecutor(len(groups)) as pool:  # made anew each time: threads do not survive a fork
            return [ids for group in pool.map(self._encode_group, groups) for ids in group]

    def prepare(self, text: bytes) -> bytes:
        """Return text as the tokens spell it: normalised, then capcoded."""
        data = np.frombuffer(self._unusual_steps(text) + b"\0", np.uint8)
        prepared, size = prepare_text(data, 0, data.size - 1, self._unicode, self._level, self._decomposes)
        return prepared[:size].tobytes()

    @property
    def _decomposes(self) -> bool:
        return bool(self._flags & NFD) and not self._is_unusual

    @property
    def _is_unusual(self) -> bool:
        return bool(self._flags & (ACCENTS | LOWERCASE))

    def _unusual_steps(self, text: bytes) -> bytes:
        """Take the steps that no common vocabulary has in plain Python."""
        if self._flags in (0, NFD):
            return text
        return normalize(text, self._flags) if self._is_unusual else normalize_bytes(text, self._flags)

    def _encode_group(self, texts: Sequence[bytes]) -> list[NDArray[np.uint32]]:
        data = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
        starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        ids, ends = encode_texts(self.arrays, self._unicode, data, starts, self._level, self._decomposes)
        return np.split(ids, ends[:-1]) if len(texts) != 1 else [ids]


def _groups(texts: Sequence[bytes], num_threads: int) -> list[Sequence[bytes]]:
    """Cut texts into runs of about equal work, a few for each thread."""
    total = sum(map(len, texts))
    count = min(num_threads, total // MIN_BYTES_PER_THREAD)
    if count <= 1:
        return [texts]
    groups: list[Sequence[bytes]] = []
    start, num_bytes = 0, 0
    for index, text in enumerate(texts):
        num_bytes += len(text)
        if num_bytes * count >= total * (len(groups) + 1):
            groups.append(texts[start : index + 1])
            start = index + 1
    return groups + ([texts[start:]] if start < len(texts) else [])


@kernel
def prepare_text(
    data: NDArray[np.uint8], start: int, end: int, unicode: UnicodeArrays, level: int, decomposes: bool
) -> tuple[NDArray[np.uint8], int]:
    """Return prepared text with a 0 behind it, and its length; what lies further behind is not initialised."""
    if decomposes and not _is_nfd(data, start, end, unicode):
        decomposed = np.empty(_NFD_GROWTH * (end - start) + _SLACK, np.uint8)
        end = _decompose(data, start, end, decomposed, unicode)
        data, start = decomposed, 0
    out = np.empty((_CAPCODE_GROWTH if level else 1) * (end - start) + _SLACK, np.uint8)
    if level == 2:
        size = _capcode2(data, start, end, out, unicode)
    elif level == 1:
        size = _capcode1(data, start, end, out, unicode)
    else:
        size = end - start
        out[:size] = data[start:end]
    out[size] = 0
    return out, size


@kernel
def encode_texts(
    vocab: VocabArrays,
    unicode: UnicodeArrays,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    level: int,
    decomposes: bool,
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the ids of all texts, one behind the other, and where each text's end."""
    ids = np.empty(data.size // 2 + _SLACK, np.uint32)
    ends = np.empty(starts.size - 1, np.int64)
    size = 0
    for text in range(ends.size):
        prepared, length = prepare_text(data, starts[text], starts[text + 1], unicode, level, decomposes)
        grown = walk(vocab, prepared, length, ids, size)
        while grown == FULL:
            larger = np.empty(2 * ids.size, np.uint32)
            larger[:size] = ids[:size]
            ids = larger
            grown = walk(vocab, prepared, length, ids, size)
        size = grown
        ends[text] = size
    return ids[:size].copy(), ends
