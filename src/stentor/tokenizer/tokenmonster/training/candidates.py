"""Every substring that occurs often enough and that the mode wants, counted exactly.

Positions are sorted into groups that agree in their first bytes, one byte more at a time, as a radix sort does from
the left; a group too small to hold a candidate is dropped at once. Each group is one substring, and its size is how
often it occurs. Positions are taken a batch of first bytes at a time, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, Int, inlined, kernel
from stentor.tokenizer.tokenmonster.training.filters import UNFILTERED, decode, is_latin, passes
from stentor.tokenizer.tokenmonster.training.kinds import EITHER, LETTER, NUMBER, kinds_of
from stentor.tokenizer.tokenmonster.training.text import PreparedText
from stentor.tokenizer.tokenmonster.utf8 import rune_at
from stentor.tokenizer.tokenmonster.vocab_file import MAX_TOKEN_BYTES

_BATCH_POSITIONS = 1 << 23
_MAX_BATCHES = 64
_NUM_PAIRS = 1 << 16
_DELETE_MARKERS = {1: 0x7F, 2: ord("D")}


class Candidates(NamedTuple):
    """Substrings that may become tokens, each once.

    Attributes:
        starts: where in the text each stands for the first time.
        lengths: in bytes.
        counts: how often each occurs where the mode wants it.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]


def find_candidates(
    text: PreparedText,
    *,
    mode: int,
    capcode: int,
    min_occurrences: int,
    only_valid: bool = True,
    only_latin: bool = True,
    num_workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, whole: None,
) -> Candidates:
    """Return the substrings of 2 to 40 bytes that occur often enough, in the order of their first two bytes.

    Args:
        text: to look through; no candidate reaches over the end of a document, or holds a byte 0.
        mode: an index into MODES of `vocab_file`.
        capcode: the level that the text was prepared with.
        min_occurrences: those that the mode rejects because of what follows them do not count.
        only_valid: no candidate begins or ends within a character.
        only_latin: no candidate has a letter of another script.
        num_workers: threads; the result is the same for any number.
        on_progress: called with the batches done, and all there are.
    """
    kinds, data = kinds_of(capcode), text.data
    pair_counts = _count_pairs(data)
    batches = _batches(pair_counts, min_occurrences)

    def search(batch: tuple[int, int]) -> Candidates:
        positions, ends = _positions_of(data, pair_counts, *batch)
        rules = mode, capcode, min_occurrences, only_valid, only_latin
        return Candidates(*_search(data, positions, ends, kinds, *rules))

    found: list[Candidates] = []
    with ThreadPoolExecutor(num_workers) as pool:
        for part in pool.map(search, batches):
            found.append(part)
            on_progress(len(found), len(batches))
    everything = Candidates(*(np.concatenate(column) for column in zip(*found, strict=True)))
    return _without_prefix(everything, data, capcode, kinds)


def _batches(pair_counts: NDArray[np.int64], min_occurrences: int) -> list[tuple[int, int]]:
    """Cut the pairs of first bytes into ranges of about equally many positions."""
    wanted = np.where(pair_counts >= min_occurrences, pair_counts, 0)
    total = int(wanted.sum())
    limit = max(_BATCH_POSITIONS, -(-total // _MAX_BATCHES))
    edges, size = [0], 0
    for pair in np.flatnonzero(wanted):
        if size and size + wanted[pair] > limit:
            edges.append(int(pair))
            size = 0
        size += int(wanted[pair])
    return [*zip(edges, [*edges[1:], _NUM_PAIRS], strict=True)]


@kernel
def _count_pairs(data: Bytes) -> NDArray[np.int64]:
    counts = np.zeros(_NUM_PAIRS, np.int64)
    for position in range(data.size - 1):
        if data[position] and data[position + 1]:
            counts[np.int64(data[position]) << 8 | data[position + 1]] += 1
    return counts


@kernel
def _positions_of(
    data: Bytes, pair_counts: NDArray[np.int64], first: int, last: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return where each pair of a range stands, pair by pair, and the end of each pair's positions."""
    ends = np.zeros(last - first + 1, np.int64)
    for pair in range(first, last):
        ends[pair - first + 1] = ends[pair - first] + pair_counts[pair]
    positions, next_free = np.empty(ends[-1], np.uint32), ends[:-1].copy()
    for position in range(data.size - 1):
        pair = np.int64(data[position]) << 8 | data[position + 1]
        if first <= pair < last and data[position] and data[position + 1]:
            positions[next_free[pair - first]] = position
            next_free[pair - first] += 1
    return positions, ends[1:]


@inlined
def _follower_kinds(data: Bytes, position: Int, kinds: Bytes, tally: NDArray[np.int64]) -> None:
    """Count the kind of a character that is not ASCII: a letter, a number, or neither."""
    code, _ = rune_at(data, position, data.size)
    kind = kinds[code]
    tally[0 if kind & LETTER else 1 if kind & NUMBER else 2] += 1


@kernel
def _tally(
    data: Bytes, positions: NDArray[np.uint32], first: int, last: int, depth: int, kinds: Bytes,
    histogram: NDArray[np.int64], following: Bytes, tally: NDArray[np.int64],
) -> None:  # fmt: skip
    """Count what follows a substring: bytes into `histogram`, kinds of characters into `tally`."""
    histogram[:], tally[:] = 0, 0
    for index in range(first, last):
        byte = data[positions[index] + depth]
        following[index] = byte
        histogram[byte] += 1
    for byte in range(128):
        if histogram[byte]:
            kind = kinds[byte]
            tally[0 if kind & LETTER else 1 if kind & NUMBER else 2] += histogram[byte]
    if tally[0] + tally[1] + tally[2] < last - first:
        for index in range(first, last):
            if following[index] >= 128:
                _follower_kinds(data, np.int64(positions[index]) + depth, kinds, tally)


@kernel
def _wanted(
    data: Bytes, start: Int, depth: Int, tally: NDArray[np.int64], kinds: Bytes, mode: int, level: int,
    only_valid: bool, only_latin: bool, codes: NDArray[np.int64], offsets: NDArray[np.int64],
) -> int:  # fmt: skip
    """Return how often a substring stands where the mode wants it."""
    count, is_valid = decode(data, start, start + depth, codes, offsets)
    if (only_valid and not is_valid) or (only_latin and not is_latin(codes, count, kinds)):
        return 0
    if mode == UNFILTERED:
        return tally[0] + tally[1] + tally[2]
    wanted = 0
    for column in range(3):
        follower = (LETTER, NUMBER, 0)[column]
        if tally[column] and passes(codes, offsets, count, kinds, mode, level, follower):
            wanted += tally[column]
    return wanted


@kernel
def _search(
    data: Bytes, positions: NDArray[np.uint32], ends: NDArray[np.int64], kinds: Bytes, mode: int, level: int,
    min_occurrences: int, only_valid: bool, only_latin: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Return start, length and count of the candidates among sorted positions."""
    following, moved = np.empty(positions.size, np.uint8), np.empty(positions.size, np.uint32)
    histogram, tally, next_free = np.empty(256, np.int64), np.empty(3, np.int64), np.empty(256, np.int64)
    codes, offsets = np.empty(MAX_TOKEN_BYTES + 1, np.int64), np.empty(MAX_TOKEN_BYTES + 2, np.int64)
    stack, found, size = np.empty((MAX_TOKEN_BYTES * 256, 3), np.int64), np.empty((1 << 12, 3), np.int64), 0
    before = 0
    for end in ends:
        stack[0, 0], stack[0, 1], stack[0, 2] = before, end, 2
        before, height = end, 1 if end - before >= min_occurrences else 0
        while height:
            height -= 1
            first, last, depth = stack[height, 0], stack[height, 1], stack[height, 2]
            _tally(data, positions, first, last, depth, kinds, histogram, following, tally)
            start = np.int64(positions[first])
            rules = mode, level, only_valid, only_latin
            wanted = _wanted(data, start, depth, tally, kinds, *rules, codes, offsets)
            if wanted >= min_occurrences:
                if size == found.shape[0]:
                    larger = np.empty((2 * size, 3), np.int64)
                    larger[:size] = found
                    found = larger
                found[size, 0], found[size, 1], found[size, 2] = start, depth, wanted
                size += 1
            if depth == MAX_TOKEN_BYTES:
                continue
            histogram[0] = 0  # documents end there
            moving = first
            for byte in range(256):
                next_free[byte] = moving
                if histogram[byte] >= min_occurrences:
                    stack[height, 0], stack[height, 1], stack[height, 2] = moving, moving + histogram[byte], depth + 1
                    height, moving = height + 1, moving + histogram[byte]
                else:
                    next_free[byte] = -1
            for index in range(first, last):
                place = next_free[following[index]]
                if place >= 0:
                    moved[place] = positions[index]
                    next_free[following[index]] = place + 1
            positions[first:moving] = moved[first:moving]
    return found[:size, 0].copy(), found[:size, 1].copy(), found[:size, 2].copy()


def _without_prefix(found: Candidates, data: Bytes, capcode: int, kinds: Bytes) -> Candidates:
    """Drop a delete marker and a space in front of a letter or a number: every token gets that spelling besides."""
    starts, lengths, counts = found
    if not capcode or not starts.size:
        return found
    is_prefixed = (data[starts] == _DELETE_MARKERS[capcode]) & (data[starts + 1] == 0x20) & (lengths > 2)
    is_prefixed &= (
        kinds[_codes_at(data, np.minimum(starts + 2, starts + lengths - 1), starts + lengths)] & EITHER
    ) != 0
    begins_alike = (kinds[_codes_at(data, starts, starts + lengths)] & EITHER) != 0
    known = {_bytes_at(data, starts[index], lengths[index]) for index in np.flatnonzero(begins_alike)}
    kept = ~is_prefixed
    for index in np.flatnonzero(is_prefixed & (lengths > 3)):
        starts[index], lengths[index] = starts[index] + 2, lengths[index] - 2
        spelling = _bytes_at(data, starts[index], lengths[index])
        kept[index] = spelling not in known
        known.add(spelling)
    return Candidates(starts[kept], lengths[kept], counts[kept])


@kernel
def _codes_at(data: Bytes, positions: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    codes = np.empty(positions.size, np.int64)
    for index in range(positions.size):
        codes[index] = rune_at(data, positions[index], ends[index])[0]
    return codes


def _bytes_at(data: Bytes, start: int, length: int) -> bytes:
    return data[start : start + length].tobytes()
