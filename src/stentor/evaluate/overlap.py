"""Which documents of an evaluation text share 13 words in a row with a training text.

The evaluation text is held in memory as the hashes of its 13-grams, 9 bytes each; the training text, however long,
streams past them. A hash has 64 bits, so one of a hundred thousand such comparisons would find an overlap by chance.

Reference: Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv 2005.14165, appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError

NUM_WORDS = 13
NORMALISATION = (
    "lower-cased; apostrophes dropped; words are runs of letters and digits, whatever else stands between them"
)
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")
_FILTER_BITS = 27
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
Watch = Callable[[int, int], None]


def words_of(text: str) -> list[str]:
    """Return the words of a text as `NORMALISATION` says."""
    return _WORD.findall(text.lower().translate(_APOSTROPHES))


@dataclass(frozen=True, slots=True)
class DocumentOverlap:
    """What a document has in common with the training text.

    Attributes:
        num_ngrams: 13-grams of the document; none where it has fewer words.
        num_found: of these, that the training text has.
    """

    num_ngrams: int
    num_found: int

    @property
    def share(self) -> float:
        """Share of the document's 13-grams that the training text has."""
        return self.num_found / self.num_ngrams if self.num_ngrams else 0.0

    @property
    def is_clean(self) -> bool:
        """Whether the training text has none of them: what GPT-3's authors call clean."""
        return not self.num_found


class OverlapIndex:
    """The 13-grams of an evaluation text, and which of them were found elsewhere.

    Args:
        documents: of the evaluation text.

    Raises:
        UserError: there is no document.
    """

    def __init__(self, documents: Iterable[str]) -> None:
        self._id_of_word: dict[str, int] = {}
        hashes = [self._hashes(self._ids(words_of(text), is_new=True)) for text in documents]
        if not hashes:
            raise UserError("there is no text to look for", fix="pass a source with at least one document")
        self._bounds = np.cumsum([0, *map(len, hashes)])
        self._hashes_of_all = np.concatenate(hashes)
        self._sorted = np.unique(self._hashes_of_all)
        self._is_found = np.zeros(len(self._sorted), dtype=bool)

    @cached_property
    def _is_possible(self) -> NDArray[np.bool_]:
        """Tell by the first bits of a hash whether it may be one of ours, which few of others are."""
        table = np.zeros(1 << _FILTER_BITS, dtype=bool)
        table[self._sorted >> np.uint64(64 - _FILTER_BITS)] = True
        return table

    def look_in(self, training: Iterable[str], *, on_progress: Watch | None = None) -> None:
        """Look for the 13-grams in a training text.

        Args:
            training: its documents.
            on_progress: called with (documents read, bytes read) after each.
        """
        num_bytes = 0
        for number, text in enumerate(training, 1):
            num_bytes += len(text) if text.isascii() else len(text.encode(errors="replace"))
            hashes = self._hashes(self._ids(words_of(text), is_new=False))
            hashes = hashes[self._is_possible[hashes >> np.uint64(64 - _FILTER_BITS)]]
            if len(hashes) and len(self._sorted):
                places = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
                self._is_found[places[self._sorted[places] == hashes]] = True
            if on_progress:
                on_progress(number, num_bytes)

    def overlaps(self) -> list[DocumentOverlap]:
        """Return what was found of each document so far, in order."""
        found = self._is_found[np.searchsorted(self._sorted, self._hashes_of_all)]
        sums = np.concatenate(([0], np.cumsum(found)))
        return [
            DocumentOverlap(int(end - start), int(sums[end] - sums[start]))
            for start, end in zip(self._bounds[:-1], self._bounds[1:], strict=True)
        ]

    def _ids(self, words: Sequence[str], *, is_new: bool) -> NDArray[np.int64]:
        """Number words; those that the evaluation text does not have are -1."""
        table = self._id_of_word
        if is_new:
            for word in words:
                table.setdefault(word, len(table))
        return np.fromiter((table.get(word, -1) for word in words), np.int64, len(words))

    @staticmethod
    def _hashes(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the hash of each 13 words in a row that are all known."""
        count = len(ids) - NUM_WORDS + 1
        if count < 1:
            return np.empty(0, dtype=np.uint64)
        values = _mixed(ids.astype(np.uint64) + np.uint64(1))
        hashes = np.zeros(count, dtype=np.uint64)
        for place in range(NUM_WORDS):
            hashes *= _FACTOR
            hashes += values[place : place + count]
        unknown = np.concatenate(([0], np.cumsum(ids < 0)))
        return _mixed(hashes[unknown[NUM_WORDS:] == unknown[:count]])


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit numbers; a bijection.

    Reference: Steele et al. 2014, "Fast splittable pseudorandom number generators", the finalizer of SplitMix64.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
