"""The ungreedy walk: at each token, look at what the next one would be for the token and for two shorter ones.

Scores and the order of equals are those of the original, to the bit. Text is 0-terminated: `data[end]` is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stentor.tokenizer.tokenmonster.compiled import Bytes, Int, inlined, kernel
from stentor.tokenizer.tokenmonster.tables import NODE_BITS, VocabArrays

FULL = -1
"""Returned where the ids do not fit."""
_NODE, _FIELD = np.uint64((1 << NODE_BITS) - 1), np.uint64(NODE_BITS)
_PARENT = np.uint64(2 * NODE_BITS)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_ABSENT = -1_000_000
_WHOLE_WORD = 32
# ruff: noqa: ANN001, ANN202 - types of inlined functions come from their callers


@inlined
def _start(roots, singles, data, position, end):
    """Return (node, base, found) after two bytes: a node of 0 goes no further; found is record + 1 << 6 | length."""
    first = np.int64(data[position])
    word = roots[first | np.int64(data[position + 1]) << 8]
    if position + 1 >= end:
        word = (np.uint64(singles[first]) << np.uint64(2)) | np.uint64(1) if position < end else np.uint64(0)
    return word >> np.uint64(41), (word >> np.uint64(20)) & _NODE, _found(word)


@inlined
def _found(word):
    record = (word >> np.uint64(2)) & np.uint64(0x3FFFF)
    return ((record << np.uint64(6)) | (word & np.uint64(3))) & (_ZERO - np.uint64(record != _ZERO))


@inlined
def _step(cells, byte, is_inside, depth, node, base, found):
    """Go one byte further where the trie does; without a jump, so that several descents overlap in the processor."""
    target = base + np.uint64(byte)
    cell = cells[target]
    matches = _ZERO - (np.uint64((cell >> _PARENT) == node + _ONE) & is_inside)
    is_token = matches & (_ZERO - np.uint64((cell & _NODE) != _ZERO))
    found = (found & ~is_token) | ((((cell & _NODE) << np.uint64(6)) | depth) & is_token)
    base = (cell >> _FIELD) & _NODE & matches
    return target & (_ZERO - np.uint64(base != _ZERO)), base, found


@inlined
def _longest(cells, roots, singles, data, position, end):
    """Return (record + 1 << 6 | length) of the longest token here; 0 where there is none."""
    node, base, found = _start(roots, singles, data, position, end)
    depth = 2
    while node:
        is_inside = np.uint64(position + depth < end)
        byte = data[position + depth]
        depth += 1
        node, base, found = _step(cells, byte, is_inside, np.uint64(depth), node, base, found)
    return np.int64(found)


@inlined
def _longest_of_three(cells, roots, singles, data, places, end):
    """Return the same for three places at once; the text's end where one is not wanted."""
    place1, place2, place3 = places
    node1, base1, found1 = _start(roots, singles, data, place1, end)
    node2, base2, found2 = _start(roots, singles, data, place2, end)
    node3, base3, found3 = _start(roots, singles, data, place3, end)
    depth = 2
    while node1 | node2 | node3:
        inside1, byte1 = np.uint64(place1 + depth < end), data[place1 + depth]
        inside2, byte2 = np.uint64(place2 + depth < end), data[place2 + depth]
        inside3, byte3 = np.uint64(place3 + depth < end), data[place3 + depth]
        depth += 1
        node1, base1, found1 = _step(cells, byte1, inside1, np.uint64(depth), node1, base1, found1)
        node2, base2, found2 = _step(cells, byte2, inside2, np.uint64(depth), node2, base2, found2)
        node3, base3, found3 = _step(cells, byte3, inside3, np.uint64(depth), node3, base3, found3)
    return np.int64(found1), np.int64(found2), np.int64(found3)


@inlined
def _longest_after_space(cells, roots, data, position, end):
    """Return the same for a space and the text here; the length counts the space."""
    word = roots[0x20 | np.int64(data[position]) << 8]
    node, base, found = word >> np.uint64(41), (word >> np.uint64(20)) & _NODE, _found(word)
    depth = 2
    while node:
        is_inside = np.uint64(position + depth - 1 < end)
        byte = data[position + depth - 1]
        depth += 1
        node, base, found = _step(cells, byte, is_inside, np.uint64(depth), node, base, found)
    return np.int64(found)


@inlined
def _score(first, second, words1, follower, total):
    """Return what both kinds of split are worth; `first` and `second` are packed records."""
    flag1, flag2, words2 = (first >> 6) & 255, (second >> 6) & 255, (second >> 14) & 63
    score = total + (flag1 >> 7) + (flag2 >> 7) + max(0, words1 - 1) + max(0, words2 - 1) + ((follower >> 2) & 1)
    score += 100 * (words1 + words2 + (follower >> 3)) - 100 * ((flag1 >> 3) & 1 & (flag2 >> 4))
    return score - 3 * (flag2 & 1 & follower)


@inlined
def _penalty(branch, total, length):
    if branch == 0 or total > length:
        return 0
    return -10_000 if total == length else -100


@kernel
def walk(vocab: VocabArrays, data: Bytes, end: Int, ids: NDArray[np.uint32], size: Int) -> Int:
    """Write the ids of prepared text behind the first `size`; return how many there are then, or FULL."""
    cells, roots, singles, records = vocab.cells, vocab.roots, vocab.singles, vocab.records
    begin_byte, may_delete, all_ids = vocab.begin_byte, vocab.delete_id >= 0, vocab.ids
    position = 0
    while position < end:
        found = _longest(cells, roots, singles, data, position, end)
        if found == 0:
            if vocab.unk_id >= 0:
                if size >= ids.size:
                    return FULL
                ids[size] = vocab.unk_id
                size += 1
            position += 1
            continue
        deleted = 0
        while True:
            if size + 2 > ids.size:
                return FULL
            chosen, step, following, deletes = _best_split(
                cells, roots, singles, records, begin_byte, may_delete, data, end, position, found, deleted
            )
            ids[size] = all_ids[chosen]
            size += 1
            position += step
            if following == 0:
                break
            if deletes:
                ids[size] = vocab.delete_id
                size += 1
            found, deleted = following, deletes
    return size


@inlined
def _best_split(cells, roots, singles, records, begin_byte, may_delete, data, end, position, found, deleted):
    """Return the record to write, its length, what follows it (0: nothing yet), and whether a space is deleted.

    `found` is the candidate as `_longest` returns it; `deleted` is 1 where its first space is not in the text.
    """
    record, length = (found >> 6) - 1, found & 63
    packed = np.int64(records[record])
    stop = position + length
    if stop >= end or ((packed >> 6) & _WHOLE_WORD and begin_byte[data[stop]] == 12):
        return record, length, 0, 0
    best_score, best_first, best_step, best_next = _ABSENT, record, length, 0
    space_score, space_first, space_step, space_next = _ABSENT, record, length, 0
    alt1, alt2 = ((packed >> 20) & 0x3FFFF) - 1, ((packed >> 38) & 0x3FFFF) - 1
    step1 = (np.int64(records[alt1]) & 63) - deleted if alt1 >= 0 else end - position
    step2 = (np.int64(records[alt2]) & 63) - deleted if alt2 >= 0 else end - position
    places = stop, position + step1, position + step2
    second0, second1, second2 = _longest_of_three(cells, roots, singles, data, places, end)
    for branch in range(3):
        first, step, second = record, length, second0
        if branch == 1:
            first, step, second = alt1, step1, second1
        elif branch == 2:
            first, step, second = alt2, step2, second2
        if second == 0:
            continue
        head = np.int64(records[first])
        words = ((head >> 14) & 63) - deleted
        tail, total = np.int64(records[(second >> 6) - 1]), step + (second & 63)
        follower = np.int64(begin_byte[data[position + total]])
        score = _score(head, tail, words, follower, total) + ((tail >> 8) & 1) - 103 * ((head >> 6) & 1 & (tail >> 7))
        score += _penalty(branch, total, length)
        if score > best_score:
            best_score, best_first, best_step, best_next = score, first, step, second
        if follower != 1 or (tail >> 7) & 1 == 0 or (tail >> 14) & 63 or not may_delete:
            continue
        spaced = _longest_after_space(cells, roots, data, position + step, end)
        if spaced == 0 or (spaced & 63) <= (second & 63) + 1:
            continue
        spaced -= 1
        tail, total = np.int64(records[(spaced >> 6) - 1]), step + (spaced & 63)
        follower = np.int64(begin_byte[data[position + total]])
        score = _score(head, tail, words, follower, total) - 103 * ((head >> 6) & 1) - 1
        score += _penalty(branch, total, length)
        if score > space_score:
            space_score, space_first, space_step, space_next = score, first, step, spaced
    if space_score > best_score:
        return space_first, space_step, space_next, 1
    return best_first, best_step, best_next, 0
