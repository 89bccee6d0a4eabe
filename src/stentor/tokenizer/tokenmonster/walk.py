"""The ungreedy walk: at each token, look at what the next one would be for the token and for two shorter ones.

Scores and the order of equals are those of the original, to the bit. Text is 0-terminated: `data[end]` is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, Int, borrowed, inlined, kernel
from stentor.tokenizer.tokenmonster.scoring import deleting_score, may_delete_before, penalty, plain_score
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS, seconds_of, state_of
from stentor.tokenizer.tokenmonster.tables import VocabArrays

FULL = -1
"""Returned where the ids do not fit."""
_NODE, _FIELD = np.uint64((1 << NODE_BITS) - 1), np.uint64(NODE_BITS)
_PARENT = np.uint64(2 * NODE_BITS)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_ABSENT = -1_000_000
_WHOLE_WORD = 32
# ruff: noqa: ANN001, ANN202 - types of inlined functions come from their callers


@inlined
def _descend(cells, data, place, end, depth, node, base, found):
    """Go on from a node that `depth` bytes behind `place` led to; return record + 1 << 6 | length, or 0."""
    depth, limit = np.int64(depth), end - place
    while depth < limit:
        target = base + np.uint64(data[place + depth])
        cell = cells[target]
        if (cell >> _PARENT) != node + _ONE:
            break
        depth += 1
        node, base = target, (cell >> _FIELD) & _NODE
        if cell & _NODE:
            found = np.int64((cell & _NODE) << np.uint64(6)) | depth
        if base == _ZERO:
            break
    return found


@inlined
def _go_on(cells, data, place, end, depth, node, found):
    return _descend(cells, data, place, end, depth, node, (cells[node] >> _FIELD) & _NODE, found)


@inlined
def _longest(cells, roots, singles, data, position, end):
    """Return (record + 1 << 6 | length) of the longest token here; 0 where there is none."""
    first = np.int64(data[position])
    word = roots[first | np.int64(data[position + 1]) << 8]
    if position + 1 >= end:
        word = (np.uint64(singles[first]) << np.uint64(2)) | np.uint64(1) if position < end else np.uint64(0)
    found, node = _found(word), word >> np.uint64(41)
    if node:
        found = _descend(cells, data, position, end, 2, node, (word >> np.uint64(20)) & _NODE, found)
    return found


@inlined
def _found(word):
    record = (word >> np.uint64(2)) & np.uint64(0x3FFFF)
    return np.int64(((record << np.uint64(6)) | (word & np.uint64(3))) & (_ZERO - np.uint64(record != _ZERO)))


@inlined
def _longest_after_space(cells, roots, data, position, end):
    """Return the same for a space and the text here; the length counts the space."""
    word = roots[0x20 | np.int64(data[position]) << 8]
    found, node = _found(word), word >> np.uint64(41)
    if node:
        found = _descend(cells, data, position - 1, end, 2, node, (word >> np.uint64(20)) & _NODE, found)
    return found


@kernel
def walk(vocab: VocabArrays, data: Bytes, end: Int, ids: NDArray[np.uint32], size: Int) -> Int:
    """Write the ids of prepared text behind the first `size`; return how many there are then, or FULL."""
    cells, roots, singles = borrowed(vocab.cells), borrowed(vocab.roots), borrowed(vocab.singles)
    records, begins, all_ids = borrowed(vocab.records), borrowed(vocab.begin_byte), borrowed(vocab.ids)
    data, ids, may_delete, unk_id, delete_id = (
        borrowed(data),
        borrowed(ids),
        vocab.delete_id >= 0,
        vocab.unk_id,
        vocab.delete_id,
    )
    position = 0
    while position < end:
        found = _longest(cells, roots, singles, data, position, end)
        if found == 0:
            if unk_id >= 0:
                if size >= ids.size:
                    return FULL
                ids[size] = unk_id
                size += 1
            position += 1
            continue
        deleted = 0
        while True:
            if size + 2 > ids.size:
                return FULL
            chosen, step, following, deletes = _best_split(
                cells, roots, singles, records, begins, may_delete, data, end, position, found, deleted
            )
            ids[size] = all_ids[chosen]
            size += 1
            position += step
            if following == 0:
                break
            if deletes:
                ids[size] = delete_id
                size += 1
            found, deleted = following, deletes
    return size


@inlined
def _best_split(cells, roots, singles, records, begins, may_delete, data, end, position, found, deleted):
    """Return the record to write, its length, what follows it (0: nothing yet), and whether a space is deleted.

    `found` is the candidate as `_longest` returns it; `deleted` is 1 where its first space is not in the text.
    """
    record, length = (found >> 6) - 1, found & 63
    packed = np.int64(records[4 * record])
    stop = position + length
    if stop >= end or ((packed >> 6) & _WHOLE_WORD and begins[data[stop]] == 12):
        return record, length, 0, 0
    first, step, space_first, space_step = record, length, record, length
    best_score, space_score, spaced = _ABSENT, _ABSENT, 0
    following = _longest(cells, roots, singles, data, stop, end)
    if following:
        best_score, space_score, spaced = _worth(
            cells, roots, records, begins, may_delete, data, end, position, packed, deleted, length, following, 0
        )
    is_certain = following != 0 and deleted == 0
    within = seconds_of(records[4 * record + 3])
    for which in range(2):
        alternative = ((packed >> (20 + 18 * which)) & 0x3FFFF) - 1
        if alternative < 0:
            break
        node, deletes, score = state_of(records[4 * record + 1 + which])
        head = np.int64(records[4 * alternative])
        shorter, certain = (head & 63) - deleted, within[1] if which else within[0]
        second = certain
        if node:
            second = _go_on(cells, data, position + shorter, end, length - shorter, node, certain)
        if second == 0:
            continue
        if not is_certain or second != certain or deletes:
            score, other_score, other = _worth(
                cells,
                roots,
                records,
                begins,
                may_delete,
                data,
                end,
                position,
                head,
                deleted,
                shorter,
                second,
                length,
            )
            if other_score > space_score:
                space_score, space_first, space_step, spaced = other_score, alternative, shorter, other
        if score > best_score:
            best_score, first, step, following = score, alternative, shorter, second
    if space_score > best_score:
        return space_first, space_step, spaced, 1
    return first, step, following, 0


@inlined
def _worth(cells, roots, records, begins, may_delete, data, end, position, head, deleted, step, second, whole):
    """Return the score of a token and what follows, that with a deleted space between them, and what follows then.

    `whole` is the length of the token that this is a shorter form of; 0 for that token itself.
    """
    words = ((head >> 14) & 63) - deleted
    tail, total = np.int64(records[4 * ((second >> 6) - 1)]), step + (second & 63)
    follower = np.int64(begins[data[position + total]])
    score, space_score, spaced = plain_score(head, tail, words, follower, total) + penalty(total, whole), _ABSENT, 0
    if may_delete and may_delete_before(tail, follower):
        spaced = _longest_after_space(cells, roots, data, position + step, end)
        if spaced & 63 > (second & 63) + 1:
            spaced -= 1
            tail, total = np.int64(records[4 * ((spaced >> 6) - 1)]), step + (spaced & 63)
            follower = np.int64(begins[data[position + total]])
            space_score = deleting_score(head, tail, words, follower, total) + penalty(total, whole)
    return score, space_score, spaced
