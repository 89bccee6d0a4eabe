"""Ids to bytes, all at once or as they come; both give the same bytes however the ids are cut up.

An id beyond the vocabulary, as a model's special tokens are, ends a text: each document was encoded alone, so what
one leaves open (a capital, a space to take away) must not reach into the next.

The original's decoder fails where a character is split between two chunks; this one keeps its bytes until the
character is whole or can no longer become one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import kernel
from stentor.tokenizer.tokenmonster.capcode import uncapcode1, uncapcode2
from stentor.tokenizer.tokenmonster.tables import VocabArrays, unicode_arrays
from stentor.tokenizer.tokenmonster.utf8 import unfinished_tail


class StreamingDecoder:
    """Decode ids piece by piece; everything returned, joined, is the text of all the ids."""

    def __init__(self, vocab: VocabArrays, level: int) -> None:
        self._vocab = vocab
        self._level = level
        self._state = 0
        self._remainder = b""

    def push(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that these ids complete; an id beyond the vocabulary has none, and ends a text."""
        chosen = np.asarray(ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64)).astype(np.int64)
        ends = np.flatnonzero((chosen < 0) | (chosen >= self._vocab.piece_starts.size - 1))
        out, start = [], 0
        for end in ends.tolist():
            out += [self._push_known(chosen[start:end]), self.finish()]
            start = end + 1
        return b"".join([*out, self._push_known(chosen[start:])])

    def push_prepared(self, prepared: bytes) -> bytes:
        """Return the bytes that this stretch of capcoded text completes."""
        data = np.frombuffer(self._remainder + prepared, np.uint8)
        kept = int(unfinished_tail(data, data.size)) if self._level == 2 else 0
        self._remainder = data[data.size - kept :].tobytes()
        return self._decoded(data[: data.size - kept])

    def finish(self) -> bytes:
        """End a text: return the bytes of a character that was never completed, else nothing."""
        data, self._remainder = np.frombuffer(self._remainder, np.uint8), b""
        decoded = self._decoded(data)
        self._state = 0
        return decoded

    def _push_known(self, ids: NDArray[np.int64]) -> bytes:
        if not ids.size:
            return b""
        return self.push_prepared(gather(self._vocab.pieces, self._vocab.piece_starts, ids).tobytes())

    def _decoded(self, data: NDArray[np.uint8]) -> bytes:
        if not data.size or self._level == 0:
            return data.tobytes()
        out = np.empty(2 * data.size + 4, np.uint8)
        if self._level == 1:
            size, self._state = uncapcode1(data, data.size, out, self._state)
        else:
            size, self._state = uncapcode2(data, data.size, out, self._state, unicode_arrays())
        return out[:size].tobytes()


@kernel
def gather(pieces: NDArray[np.uint8], starts: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pieces of ids, one behind the other."""
    size = 0
    for index in range(ids.size):
        size += starts[ids[index] + 1] - starts[ids[index]]
    out = np.empty(size, np.uint8)
    size = 0
    for index in range(ids.size):
        for position in range(starts[ids[index]], starts[ids[index] + 1]):
            out[size] = pieces[position]
            size += 1
    return out
