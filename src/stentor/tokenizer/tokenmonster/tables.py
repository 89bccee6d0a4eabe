"""Arrays that the kernels look things up in: characters, and a vocabulary's records in a double-array trie."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import inlined, kernel
from stentor.errors import UserError
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS, build_entries
from stentor.tokenizer.tokenmonster.unicode13 import NUM_CODE_POINTS, sections
from stentor.tokenizer.tokenmonster.vocab_file import NONE, VocabFile

LOWER, UPPER, LETTER, NUMBER, MARK, APOSTROPHE, BLANK = (1 << bit for bit in range(7))
"""Classes as the kernels see them: one byte for each code point."""

RECORD_BITS = 18
_MAX_TRIES = 32
MAX_CELLS, MAX_RECORDS = (1 << NODE_BITS) - 256, (1 << RECORD_BITS) - 2


class UnicodeArrays(NamedTuple):
    """One entry for each code point; of the last two, `nfd_index - 1` says where a decomposition starts."""

    classes: NDArray[np.uint8]
    lower: NDArray[np.int32]
    upper: NDArray[np.int32]
    combining: NDArray[np.uint8]
    nfd_index: NDArray[np.uint16]
    nfd_offsets: NDArray[np.uint32]
    nfd_codes: NDArray[np.uint32]


class VocabArrays(NamedTuple):
    """A vocabulary for the kernels.

    Attributes:
        cells: the trie as a double array: parent + 1 | base | record + 1; a base of 0 has no children.
        roots: for each two first bytes: node | base | record + 1 | length of that record; a node of 0 goes no further.
        singles: for each byte, record + 1 of the token that is this byte alone.
        records: four words for each: itself (alternative 2 + 1 | alternative 1 + 1 | words | flag | length), and
            what is known of its alternatives beforehand, see `shortcuts.py`.
        ids: of each record.
        begin_byte: what kind of token mostly begins with each byte.
        unk_id: -1 where there is none.
        delete_id: -1 where there is none.
        pieces: what ids decode from, one behind the other.
        piece_starts: where each begins, and the end of the last.
    """

    cells: NDArray[np.uint64]
    roots: NDArray[np.uint64]
    singles: NDArray[np.uint32]
    records: NDArray[np.uint64]
    ids: NDArray[np.uint32]
    begin_byte: NDArray[np.uint8]
    unk_id: int
    delete_id: int
    pieces: NDArray[np.uint8]
    piece_starts: NDArray[np.int64]


@cache
def unicode_arrays() -> UnicodeArrays:
    """Return Unicode 13 as arrays; untouched parts of the sparse ones take no memory."""
    raw = {name: np.frombuffer(data, "<u4") for name, data in sections().items()}
    lower, upper = np.zeros(NUM_CODE_POINTS, np.int32), np.zeros(NUM_CODE_POINTS, np.int32)
    lower[raw["lower_from"]] = raw["lower_to"].astype(np.int64) - raw["lower_from"]
    upper[raw["upper_from"]] = raw["upper_to"].astype(np.int64) - raw["upper_from"]
    nfd_index = np.zeros(NUM_CODE_POINTS, np.uint16)
    nfd_index[raw["nfd_from"]] = np.arange(1, raw["nfd_from"].size + 1)
    classes = _spread(raw["class_starts"], raw["class_values"] & np.uint32(31))
    classes[[0x27, 0x2019]] |= APOSTROPHE
    classes[0x20] |= BLANK
    combining = _spread(raw["combining_starts"], raw["combining_values"])
    return UnicodeArrays(classes, lower, upper, combining, nfd_index, raw["nfd_offsets"], raw["nfd_to"])


def _spread(starts: NDArray[np.uint32], values: NDArray[np.integer]) -> NDArray[np.uint8]:
    return np.repeat(values.astype(np.uint8), np.diff(starts, append=np.uint32(NUM_CODE_POINTS)))


def vocab_arrays(vocab: VocabFile) -> VocabArrays:
    """Return a vocabulary for the kernels.

    Raises:
        UserError: it is larger than the kernels' tables can address.
    """
    tokens = [record.token for record in vocab.records]
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    cells, data = np.zeros(0, np.uint64), np.frombuffer(b"".join(tokens), np.uint8)
    if len(tokens) <= MAX_RECORDS:
        cells = build_cells(data, starts)
    if not cells.size:
        raise UserError(f"a vocabulary of {len(tokens)} records is too large", fix="use one of fewer tokens")
    fields = np.array([record[1:6] for record in vocab.records], np.uint64).T
    flag, num_words, alt1, alt2, ids = fields
    alt1, alt2 = (np.where(alt == NONE, 0, alt + 1).astype(np.uint64) for alt in (alt1, alt2))
    records = (alt2 << np.uint64(38)) | (alt1 << np.uint64(20)) | (num_words << np.uint64(14)) | (flag << np.uint64(6))
    records |= np.diff(starts).astype(np.uint64)
    begin_byte = np.frombuffer(vocab.begin_byte, np.uint8).copy()
    pieces = vocab.pieces()
    roots, singles = build_roots(cells)
    return VocabArrays(
        cells=cells,
        roots=roots,
        singles=singles,
        records=build_entries(cells, data, starts, records, begin_byte, vocab.delete_id != NONE),
        ids=ids.astype(np.uint32),
        begin_byte=begin_byte,
        unk_id=-1 if vocab.unk_id == NONE else vocab.unk_id,
        delete_id=-1 if vocab.delete_id == NONE else vocab.delete_id,
        pieces=np.frombuffer(b"".join(pieces) + b"\0", np.uint8).copy(),
        piece_starts=np.cumsum([0, *map(len, pieces)], dtype=np.int64),
    )


@kernel
def build_cells(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the double array of a trie over tokens, or nothing where it would not fit.

    Level by level: the tokens sorted by bytes are a row of intervals, one for each node, that get finer.
    """
    order = _sorted_by_bytes(data, starts)
    capacity = 1 << 10
    while capacity < 4 * data.size + 1024:
        capacity *= 2
    cells, used = np.zeros(capacity, np.uint64), np.zeros(capacity + 512, np.bool_)
    used[0] = True
    queue_node, queue_first = np.zeros(data.size + 1, np.int64), np.zeros(data.size + 1, np.int64)
    queue_last, queue_depth = np.zeros(data.size + 1, np.int64), np.zeros(data.size + 1, np.int64)
    queue_last[0] = starts.size - 1
    children, firsts = np.zeros(257, np.int64), np.zeros(257, np.int64)
    head, tail, free, crowded, size = 0, 1, 257, 257, 512  # below 257 some nodes would need a base below 1
    while head < tail:
        node, first, last, depth = queue_node[head], queue_first[head], queue_last[head], queue_depth[head]
        head += 1
        if first < last and starts[order[first] + 1] - starts[order[first]] == depth:
            cells[node] |= np.uint64(order[first] + 1)  # the token that ends here is first in its interval
            first += 1
        count = _split(data, starts, order, first, last, depth, children, firsts)
        if count == 0:
            continue
        while used[free]:
            free += 1
        base = first_try = (free if count == 1 else max(free, crowded)) - children[0]
        while _collides(used, children, count, base):
            base += 1
        if base - first_try > _MAX_TRIES:  # few gaps here are wide enough: leave them to nodes with one child
            crowded = base + children[0]
        size = max(size, base + 256)
        if size > min(capacity, MAX_CELLS):
            return np.zeros(0, np.uint64)
        cells[node] |= np.uint64(base) << np.uint64(NODE_BITS)
        for child in range(count):
            target = base + children[child]
            used[target] = True
            cells[target] = np.uint64(node + 1) << np.uint64(2 * NODE_BITS)
            queue_node[tail], queue_depth[tail] = target, depth + 1
            queue_first[tail], queue_last[tail] = firsts[child], firsts[child + 1]
            tail += 1
    return cells[: size + 256].copy()


@inlined
def _collides(used: NDArray[np.bool_], children: NDArray[np.int64], count: int, base: int) -> bool:
    for child in range(count):  # noqa: SIM110 - a generator cannot be compiled
        if used[base + children[child]]:
            return True
    return False


@inlined
def _split(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    order: NDArray[np.int64],
    first: int,
    last: int,
    depth: int,
    children: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> int:
    """Cut an interval of tokens where the byte at `depth` changes; return the number of parts."""
    count = 0
    for position in range(first, last):
        byte = np.int64(data[starts[order[position]] + depth])
        if count == 0 or children[count - 1] != byte:
            children[count], firsts[count] = byte, position
            count += 1
    firsts[count] = last
    return count


@kernel
def _sorted_by_bytes(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tokens in the order of their bytes: one counting sort for each position, the last one first."""
    count = starts.size - 1
    order, moved = np.arange(count), np.zeros(count, np.int64)
    longest = 0
    for token in range(count):
        longest = max(longest, starts[token + 1] - starts[token])
    for depth in range(longest - 1, -1, -1):
        ends = np.zeros(258, np.int64)
        for token in range(count):
            is_longer = starts[token + 1] - starts[token] > depth
            ends[(np.int64(data[starts[token] + depth]) + 1 if is_longer else 0) + 1] += 1
        for key in range(257):
            ends[key + 1] += ends[key]
        for position in range(count):
            token = order[position]
            is_longer = starts[token + 1] - starts[token] > depth
            key = np.int64(data[starts[token] + depth]) + 1 if is_longer else 0
            moved[ends[key]] = token
            ends[key] += 1
        order, moved = moved, order
    return order


@kernel
def build_roots(cells: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return what every two first bytes lead to, and every single one."""
    node_mask, record_mask = np.uint64((1 << NODE_BITS) - 1), np.uint64((1 << NODE_BITS) - 1)
    one, two = np.uint64(NODE_BITS), np.uint64(2 * NODE_BITS)
    roots, singles = np.zeros(65536, np.uint64), np.zeros(256, np.uint32)
    root_base = (cells[0] >> one) & node_mask
    for byte in range(256):
        node = root_base + np.uint64(byte)
        if cells[node] >> two != np.uint64(1):
            continue
        single = cells[node] & record_mask
        singles[byte] = single
        base = (cells[node] >> one) & node_mask
        for second in range(256):
            found, length, further, further_base = single, np.uint64(single != 0), np.uint64(0), np.uint64(0)
            target = base + np.uint64(second)
            if base != 0 and cells[target] >> two == node + np.uint64(1):
                if cells[target] & record_mask:
                    found, length = cells[target] & record_mask, np.uint64(2)
                further_base = (cells[target] >> one) & node_mask
                further = target if further_base else np.uint64(0)
            upper = (further << np.uint64(41)) | (further_base << np.uint64(20))
            roots[byte | second << 8] = upper | (found << np.uint64(2)) | length
    return roots, singles
