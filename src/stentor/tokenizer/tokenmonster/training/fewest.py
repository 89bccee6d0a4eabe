"""The other objective: the fewest tokens that any segmentation has, in place of those of the look-ahead walk.

Text is taken as it is, line by line; candidates and the search are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, kernel
from stentor.tokenizer.pieces import without_surrogates
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS
from stentor.tokenizer.tokenmonster.tables import VocabArrays
from stentor.tokenizer.tokenmonster.training.scoring import Usage, each_part
from stentor.tokenizer.tokenmonster.training.settings import TrainingSettings
from stentor.tokenizer.tokenmonster.training.text import PreparedText, prepare_texts
from stentor.tokenizer.tokenmonster.training.train import Say, learn
from stentor.tokenizer.unigram_file import LINES_PATTERN

_NODE, _BASE_AT = np.uint64((1 << NODE_BITS) - 1), np.uint64(NODE_BITS)
_PARENT_AT, _ONE = np.uint64(2 * NODE_BITS), np.uint64(1)
_LINES = re.compile(LINES_PATTERN)


def learn_fewest(
    texts: Iterable[str], settings: TrainingSettings, *, state_dir: Path | None, num_workers: int | None, say: Say
) -> list[bytes]:
    """Return the tokens with which the texts need the fewest, by length, then bytes."""

    def lines() -> Iterator[str]:
        for text in texts:
            yield from _LINES.findall(without_surrogates(text))

    def prepare(workers: int) -> PreparedText:
        return prepare_texts(lines(), capcode=0, num_workers=workers, is_decomposed=False)

    learned = learn(prepare, settings, measure=measure_fewest, state_dir=state_dir, num_workers=num_workers, say=say)
    return [token for token, is_chosen in zip(learned.pool.tokens, learned.is_chosen, strict=True) if is_chosen]


def measure_fewest(arrays: VocabArrays, text: PreparedText, pool: ThreadPoolExecutor, every: int = 1) -> Usage:
    """Segment every n-th line into the fewest tokens and count; as `measure_usage` does for the walk."""

    def count(first: int, last: int) -> NDArray[np.int64]:
        return _count_fewest(arrays.cells, text.data, text.starts, first, last, every, arrays.ids.size)

    return each_part(text, pool, every, arrays.ids.size, count)


@kernel
def _count_fewest(
    cells: NDArray[np.uint64],
    data: Bytes,
    starts: NDArray[np.int64],
    first: int,
    last: int,
    step: int,
    num_records: int,
) -> NDArray[np.int64]:
    uses = np.zeros(num_records, np.int64)
    costs, arrivals = np.empty(1 << 12, np.int32), np.empty(1 << 12, np.int64)
    for line in range(first, last, step):
        start, length = starts[line], starts[line + 1] - 1 - starts[line]
        if length >= costs.size:
            costs, arrivals = np.empty(2 * length, np.int32), np.empty(2 * length, np.int64)
        fewest_tokens(cells, data, start, length, costs, arrivals)
        position = length
        while position > 0:
            uses[arrivals[position] >> 6] += 1
            position -= arrivals[position] & 63
    return uses


@kernel
def fewest_tokens(
    cells: NDArray[np.uint64],
    data: Bytes,
    start: int,
    length: int,
    costs: NDArray[np.int32],
    arrivals: NDArray[np.int64],
) -> None:
    """Write how many tokens each prefix needs, and record << 6 | length of the token that it then ends with.

    Of equals the first found stays: the longest token, as in the `tokenizers` library. Every byte is a token.
    """
    costs[: length + 1] = 1 << 30
    costs[0] = 0
    for position in range(length):
        node, cost = np.uint64(0), costs[position] + 1
        for end in range(position, length):
            target = ((cells[node] >> _BASE_AT) & _NODE) + np.uint64(data[start + end])
            if cells[target] >> _PARENT_AT != node + _ONE:
                break
            node = target
            record = np.int64(cells[node] & _NODE) - 1
            if record >= 0 and cost < costs[end + 1]:
                costs[end + 1] = cost
                arrivals[end + 1] = record << 6 | (end + 1 - position)
