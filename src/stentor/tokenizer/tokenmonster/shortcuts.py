"""What the look-ahead finds behind the two shorter forms of a token, as far as the token's own bytes decide it.

Behind a shorter form the rest of the token follows, whatever the text: the search there is gone through once, here.
The encoder goes on from where it ends, and mostly the next byte stops it at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Int, inlined, kernel
from stentor.tokenizer.tokenmonster.scoring import may_delete_before, penalty, plain_score

NODE_BITS = 21
_BIAS, _SCORE_BITS, _FOUND_BITS = 2048, 14, 24
_DELETES_AT, _NODE_AT = 14, 15
NONE_YET = -_BIAS
"""The score of an alternative of which nothing is certain, or nothing that could win."""


@inlined
def state_of(word: Int) -> tuple[Int, Int, Int]:
    """Return what an entry says of an alternative: node, whether a deleted space may matter, certain score."""
    score = np.int64(word & np.uint64((1 << _SCORE_BITS) - 1)) - _BIAS
    return word >> np.uint64(_NODE_AT), (word >> np.uint64(_DELETES_AT)) & np.uint64(1), score


@inlined
def seconds_of(word: Int) -> tuple[Int, Int]:
    """Return what follows each alternative within the token: record + 1 << 6 | length, or 0."""
    mask = np.uint64((1 << _FOUND_BITS) - 1)
    return np.int64(word & mask), np.int64((word >> np.uint64(_FOUND_BITS)) & mask)


@kernel
def build_entries(
    cells: NDArray[np.uint64],
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    packed: NDArray[np.uint64],
    begin_byte: NDArray[np.uint8],
    may_delete: bool,
) -> NDArray[np.uint64]:
    """Return four words for each record: itself, the state behind each alternative, and what follows these.

    A state is the node of the trie where the search ends with the token (0: it ended before), whether a deleted space
    may matter, and the score if nothing longer is found. What covers exactly the token has no score: it loses to
    whatever the token itself gives.
    """
    entries = np.zeros(4 * packed.size, np.uint64)
    for record in range(packed.size):
        word, start, end = packed[record], starts[record], starts[record + 1]
        entries[4 * record] = word
        for which in range(2):
            alternative = np.int64((word >> np.uint64(20 + 18 * which)) & np.uint64(0x3FFFF)) - 1
            score, node, second, deletes, head = NONE_YET, np.uint64(0), np.int64(0), False, np.int64(0)
            if alternative >= 0:
                head = np.int64(packed[alternative])
                second, node = _follow(cells, data, start + (head & 63), end, np.uint64(0))
            if second:
                tail, total, follower = np.int64(packed[(second >> 6) - 1]), (head & 63) + (second & 63), 1
                if total < end - start:
                    follower = np.int64(begin_byte[data[start + total]])
                    score = plain_score(head, tail, (head >> 14) & 63, follower, total) + penalty(total, end - start)
                deletes = may_delete and may_delete_before(tail, follower)
            state = node << np.uint64(_NODE_AT) | np.uint64(deletes) << np.uint64(_DELETES_AT)
            entries[4 * record + 1 + which] = state | np.uint64(score + _BIAS)
            entries[4 * record + 3] |= np.uint64(second) << np.uint64(_FOUND_BITS * which)
    return entries


@kernel
def _follow(cells: NDArray[np.uint64], data: NDArray[np.uint8], place: Int, end: Int, node: Int) -> tuple[Int, Int]:
    """Go on from a node; return the longest token, and the node at the end.

    The token is record + 1 << 6 | length, and 0 where there is none; the node is 0 where the search ends earlier, and
    where it cannot go on.
    """
    mask, found, depth = np.uint64((1 << NODE_BITS) - 1), np.int64(0), np.int64(0)
    base = (cells[node] >> np.uint64(NODE_BITS)) & mask
    for position in range(place, end):
        target = base + np.uint64(data[position])
        if base == 0 or cells[target] >> np.uint64(2 * NODE_BITS) != node + np.uint64(1):
            return found, np.uint64(0)
        node, depth, base = target, depth + 1, (cells[target] >> np.uint64(NODE_BITS)) & mask
        if cells[node] & mask:
            found = np.int64(cells[node] & mask) << 6 | depth
    return found, node if base else np.uint64(0)
