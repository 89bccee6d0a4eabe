"""All the tokens that are considered, and the encoder's tables for any choice of them.

What a record is (its flag, its words, how good each cut is) does not depend on the other tokens and is worked out once;
which shorter prefixes exist does, and is looked up anew for every choice. The tables are those of `tables.py`, but
ids are indexes of records.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, kernel
from stentor.tokenizer.tokenmonster.records import BEGIN_BYTE_OF_CLASS, Classes, cut_priority, suffix_at
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS, build_entries
from stentor.tokenizer.tokenmonster.tables import MAX_RECORDS, VocabArrays, build_cells, build_roots
from stentor.tokenizer.tokenmonster.unicode13 import runes
from stentor.tokenizer.tokenmonster.vocab_file import MAX_TOKEN_BYTES, Settings

_STOP = 0x80
"""Set in a cut's priority where no shorter prefix may be tried."""
_RECORD, _NODE = np.uint64((1 << NODE_BITS) - 1), np.uint64((1 << NODE_BITS) - 1)
_BASE_AT, _PARENT_AT = np.uint64(NODE_BITS), np.uint64(2 * NODE_BITS)


class Pool:
    """Tokens in the order of the table, and their records.

    Attributes:
        tokens: each once, by length, then bytes.
        counts: how often each occurs in the text; 0 for those in every vocabulary.
        is_fixed: whether each must be in every vocabulary.
        token_of: for each record, the token that it spells.
        data: the records' bytes.
        starts: where each record begins, and the end of the last.
    """

    def __init__(self, counts: Mapping[bytes, int], fixed: frozenset[bytes], settings: Settings) -> None:
        self.settings = settings
        self.tokens = sorted({*counts, *fixed}, key=lambda token: (len(token), token))
        self.counts = np.array([counts.get(token, 0) for token in self.tokens], np.int64)
        self.is_fixed = np.array([token in fixed for token in self.tokens])
        spellings = self._spellings()
        self.token_of = np.array([token for _, token in spellings], np.int64)
        self.data = np.frombuffer(b"".join(spelling for spelling, _ in spellings), np.uint8)
        self.starts = np.cumsum([0, *(len(spelling) for spelling, _ in spellings)], dtype=np.int64)
        plain = {
            self.tokens[token]: index
            for index, (spelling, token) in enumerate(spellings)
            if spelling == self.tokens[token]
        }
        self._plain = np.array([plain[token] for token in self.tokens], np.int64)
        classes = Classes(settings.capcode)
        shapes = [classes.shape([code for code, _ in runes(spelling)]) for spelling, _ in spellings]
        self._flags, self._words, self._begins, shortest = np.array(shapes, np.int64).reshape(-1, 4).T.copy()
        self._cuts = np.zeros((len(spellings), MAX_TOKEN_BYTES), np.uint8)
        for index, (spelling, _) in enumerate(spellings):
            self._cuts[index] = _cuts(spelling, int(shortest[index]), classes)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each record."""
        return np.diff(self.starts)

    def _spellings(self) -> list[tuple[bytes, int]]:
        """Return every way to spell a token, in the order of the table, and the token."""
        classes, prefix = Classes(self.settings.capcode), self.settings.delete_marker + b" "
        found = {token: index for index, token in enumerate(self.tokens)}
        if self.settings.capcode:
            for index, token in enumerate(self.tokens):
                if len(prefix) + len(token) <= MAX_TOKEN_BYTES and classes.takes_prefix(token):
                    found.setdefault(prefix + token, index)
        return sorted(found.items(), key=lambda spelling: (len(spelling[0]), spelling[0]))

    def chosen_records(self, is_chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the records of the chosen tokens."""
        return np.flatnonzero(is_chosen[self.token_of])

    def bytes_of(self, tokens: NDArray[np.int64]) -> tuple[Bytes, NDArray[np.int64]]:
        """Return the bytes of tokens, one behind the other, and where each begins."""
        return take(self.data, self.starts, self._plain[tokens])

    def arrays(self, is_chosen: NDArray[np.bool_]) -> VocabArrays | None:
        """Return the encoder's tables for the chosen tokens; None where they are too many for it.

        An id is the index of a record among those that `chosen_records` returns.
        """
        chosen = self.chosen_records(is_chosen)
        data, starts = take(self.data, self.starts, chosen)
        cells = build_cells(data, starts) if chosen.size <= MAX_RECORDS else np.zeros(0, np.uint64)
        if not cells.size:
            return None
        roots, singles = build_roots(cells)
        first, second = _alternatives(cells, data, starts, self._cuts[chosen])
        fields = ((second, 38), (first, 20), (self._words[chosen], 14), (self._flags[chosen], 6), (np.diff(starts), 0))
        records = np.zeros(chosen.size, np.uint64)
        for values, shift in fields:
            records |= values.astype(np.uint64) << np.uint64(shift)
        marker = self.settings.delete_marker
        delete_id = int(np.searchsorted(chosen, self.record_of(marker))) if marker else -1
        begin_byte = _begin_bytes(data[starts[:-1]], self._begins[chosen])
        return VocabArrays(
            cells=cells,
            roots=roots,
            singles=singles,
            records=build_entries(cells, data, starts, records, begin_byte, delete_id >= 0),
            ids=np.arange(chosen.size, dtype=np.uint32),
            begin_byte=begin_byte,
            unk_id=-1,
            delete_id=delete_id,
            pieces=data,
            piece_starts=starts,
        )

    def record_of(self, token: bytes) -> int:
        """Return the record of a token of one byte."""
        return next(index for index in range(256) if self.data[self.starts[index] : self.starts[index + 1]] == token[0])


def _cuts(spelling: bytes, shortest: int, classes: Classes) -> NDArray[np.uint8]:
    """Return how good each prefix is as an alternative, by its length; 0 where it may not be one."""
    cuts, suffix = np.zeros(MAX_TOKEN_BYTES, np.uint8), suffix_at(spelling, classes)
    for length in range(len(spelling) - 1, shortest - 1, -1):
        priority, is_last = cut_priority(spelling, length, suffix, classes)
        cuts[length] = priority | (_STOP if is_last else 0)
    return cuts


def _begin_bytes(first_bytes: Bytes, begins: NDArray[np.int64]) -> Bytes:
    """Return for each byte what kind of token mostly begins with it, as `records.py` does."""
    counts = np.zeros((256, 4), np.int64)
    np.add.at(counts, (first_bytes, begins), 1)
    table = np.zeros(256, np.uint8)
    for kind, value in BEGIN_BYTE_OF_CLASS.items():
        others = np.delete(counts, kind, axis=1).max(axis=1)
        table[(counts[:, kind] > 2) & (counts[:, kind] > others)] = value
    return table


@kernel
def take(data: Bytes, starts: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[Bytes, NDArray[np.int64]]:
    """Return the bytes of chosen records, one behind the other, and where each begins."""
    new_starts = np.zeros(chosen.size + 1, np.int64)
    for index in range(chosen.size):
        new_starts[index + 1] = new_starts[index] + starts[chosen[index] + 1] - starts[chosen[index]]
    taken = np.empty(new_starts[-1], np.uint8)
    for index in range(chosen.size):
        taken[new_starts[index] : new_starts[index + 1]] = data[starts[chosen[index]] : starts[chosen[index] + 1]]
    return taken, new_starts


@kernel
def _alternatives(
    cells: NDArray[np.uint64], data: Bytes, starts: NDArray[np.int64], cuts: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each record its two alternatives + 1; 0 where there is none."""
    count = starts.size - 1
    first, second, prefixes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(64, np.int64)
    for record in range(count):
        length = starts[record + 1] - starts[record]
        node = np.uint64(0)
        for depth in range(length - 1):
            base = (cells[node] >> _BASE_AT) & _NODE
            node = base + np.uint64(data[starts[record] + depth])
            prefixes[depth + 1] = np.int64(cells[node] & _RECORD)
        index1, length1, priority1, index2, length2, priority2 = 0, 0, 0, 0, 0, 0
        for size in range(length - 1, 0, -1):
            cut = np.int64(cuts[record, size])
            priority, index = cut & 0x7F, prefixes[size]
            if cut == 0 or index == 0:
                continue
            if priority1 < priority2 or (priority1 == priority2 and length1 <= length2):
                if priority1 < priority:
                    index1, length1, priority1 = index, size, priority
            elif priority2 < priority:
                index2, length2, priority2 = index, size, priority
            if cut & _STOP:
                break
        if index2 and (priority2 > priority1 or (priority2 == priority1 and length2 > length1)):
            index1, index2 = index2, index1
        first[record], second[record] = index1, index2
    return first, second
