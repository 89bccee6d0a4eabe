"""How often a vocabulary uses each record over the text, and what it would cost to do without."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, kernel
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS
from stentor.tokenizer.tokenmonster.tables import VocabArrays
from stentor.tokenizer.tokenmonster.training.text import PreparedText
from stentor.tokenizer.tokenmonster.vocab_file import MAX_TOKEN_BYTES
from stentor.tokenizer.tokenmonster.walk import FULL, walk

_PART_BYTES = 2_000_000
_NODE, _BASE_AT = np.uint64((1 << NODE_BITS) - 1), np.uint64(NODE_BITS)
_PARENT_AT = np.uint64(2 * NODE_BITS)


class Usage(NamedTuple):
    """What a walk over text gave.

    Attributes:
        uses: of each record.
        num_tokens: in all.
    """

    uses: NDArray[np.int64]
    num_tokens: int


CountPart = Callable[[int, int], NDArray[np.int64]]
"""Takes the first document of a part and the end of the part; returns the uses of each record."""


def measure_usage(arrays: VocabArrays, text: PreparedText, pool: ThreadPoolExecutor, every: int = 1) -> Usage:
    """Tokenise every n-th document with a vocabulary and count."""

    def count(first: int, last: int) -> NDArray[np.int64]:
        return _count(arrays, text.data, text.starts, first, last, every)

    return each_part(text, pool, every, arrays.ids.size, count)


def each_part(text: PreparedText, pool: ThreadPoolExecutor, every: int, num_records: int, count: CountPart) -> Usage:
    """Add up what a kernel counts in every n-th document of each part of a text.

    The sums are of whole numbers: they do not depend on the number of threads.
    """
    edges = np.searchsorted(text.starts, np.arange(0, text.data.size, _PART_BYTES * every))
    firsts = [-(-int(edge) // every) * every for edge in edges]
    uses = np.zeros(num_records, np.int64)
    for counted in pool.map(count, firsts, [*edges[1:], text.num_documents]):
        uses += counted
    return Usage(uses, int(uses.sum()))


@kernel
def _count(
    arrays: VocabArrays, data: Bytes, starts: NDArray[np.int64], first: int, last: int, step: int
) -> NDArray[np.int64]:
    uses, ids = np.zeros(arrays.ids.size, np.int64), np.empty(1 << 16, np.uint32)
    for document in range(first, last, step):
        content = data[starts[document] : starts[document + 1]]
        size = walk(arrays, content, content.size - 1, ids, 0)
        while size == FULL:
            ids = np.empty(2 * ids.size, np.uint32)
            size = walk(arrays, content, content.size - 1, ids, 0)
        for index in range(size):
            uses[ids[index]] += 1
    return uses


def removal_costs(arrays: VocabArrays, uses: NDArray[np.int64], token_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each record how many tokens more there would be without its token.

    Args:
        arrays: the vocabulary.
        uses: of each record.
        token_of: which token each record spells; all its spellings would be gone.
    """
    return uses * (_fewest_without(arrays.cells, arrays.pieces, arrays.piece_starts, token_of, token_of) - 1)


def fewest_tokens_for(arrays: VocabArrays, data: Bytes, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the least number of tokens of a vocabulary that spell each of these byte strings."""
    nothing = np.full(starts.size - 1, -1)
    return _fewest_without(arrays.cells, data, starts, nothing, np.zeros(arrays.ids.size, np.int64))


@kernel
def _fewest_without(
    cells: NDArray[np.uint64],
    data: Bytes,
    starts: NDArray[np.int64],
    left_out: NDArray[np.int64],
    token_of: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the least number of tokens, one left out, that spell each string; its length where none do."""
    count = starts.size - 1
    fewest, costs = np.empty(count, np.int64), np.empty(MAX_TOKEN_BYTES + 1, np.int64)
    for record in range(count):
        start, length = starts[record], starts[record + 1] - starts[record]
        costs[:] = MAX_TOKEN_BYTES
        costs[0] = 0
        for position in range(length):
            if costs[position] == MAX_TOKEN_BYTES:
                continue
            node = np.uint64(0)
            for end in range(position, length):
                target = ((cells[node] >> _BASE_AT) & _NODE) + np.uint64(data[start + end])
                if cells[target] >> _PARENT_AT != node + np.uint64(1):
                    break
                node = target
                other = np.int64(cells[node] & _NODE) - 1
                if other >= 0 and token_of[other] != left_out[record]:
                    costs[end + 1] = min(costs[end + 1], costs[position] + 1)
        fewest[record] = costs[length] if costs[length] < MAX_TOKEN_BYTES else length
    return fewest
