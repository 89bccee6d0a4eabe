"""What is worked out beforehand is what the search itself would find within a token."""

from typing import Any

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.scoring import deleting_score, may_delete_before, penalty, plain_score
from stentor.tokenizer.tokenmonster.shortcuts import NODE_BITS, NONE_YET, seconds_of, state_of
from stentor.tokenizer.tokenmonster.tables import vocab_arrays
from stentor.tokenizer.tokenmonster.vocab_file import NONE


def uncompiled(function: Any) -> Any:
    return function.py_func


plain, deleting, loss, may_delete = map(uncompiled, (plain_score, deleting_score, penalty, may_delete_before))
read_state, read_seconds = uncompiled(state_of), uncompiled(seconds_of)


@pytest.fixture(scope="module")
def sample(published):
    return published("sample-2048-balanced.vocab")


def longest(index_of, data: bytes) -> tuple[int, int]:
    """Return record + 1 and length of the longest token at the beginning."""
    for length in range(len(data), 0, -1):
        if data[:length] in index_of:
            return index_of[data[:length]] + 1, length
    return 0, 0


@pytest.mark.parametrize("which", ["small", "sample"])
def test_seconds_and_nodes(request, which):
    vocab = request.getfixturevalue({"small": "small_vocab", "sample": "sample"}[which])
    arrays = vocab_arrays(vocab)
    tokens = [record.token for record in vocab.records]
    index_of = {token: index for index, token in enumerate(tokens)}
    prefixes = {token[:end] for token in tokens for end in range(1, len(token))}
    for index, record in enumerate(vocab.records):
        entry = arrays.records[4 * index : 4 * index + 4]
        seconds = read_seconds(entry[3])
        for alternative, second, word in zip((record.alt1, record.alt2), seconds, entry[1:3], strict=True):
            node, _, score = read_state(word)
            if alternative == NONE:
                assert (int(node), second, score) == (0, 0, NONE_YET)
                continue
            rest = record.token[len(tokens[alternative]) :]
            assert (second >> 6, second & 63) == longest(index_of, rest)
            assert bool(node) == (rest in prefixes)
            covers_all = len(tokens[alternative]) + (second & 63) == len(record.token)
            assert (score == NONE_YET) == (second == 0 or covers_all)


def test_a_node_is_where_the_rest_leads(sample):
    arrays = vocab_arrays(sample)
    mask = (1 << NODE_BITS) - 1
    for index, record in enumerate(sample.records[:2000]):
        if record.alt1 == NONE:
            continue
        end, _, _ = read_state(arrays.records[4 * index + 1])
        node = 0
        for byte in record.token[len(sample.records[record.alt1].token) :]:
            target = ((int(arrays.cells[node]) >> NODE_BITS) & mask) + byte
            if int(arrays.cells[target]) >> (2 * NODE_BITS) != node + 1:
                break
            node = target
        else:
            if int(end):
                assert node == int(end)
            else:
                assert (int(arrays.cells[node]) >> NODE_BITS) & mask == 0


def packed(flag: int, words: int) -> int:
    return flag << 6 | words << 14 | 5


def test_scores_are_those_of_the_description():
    """Bit by bit: homogeneous tokens, words, what follows, a split of letters, a marker before a space."""
    nothing = packed(0, 0)
    assert plain(nothing, nothing, 0, 0, 7) == 7
    assert plain(packed(128, 0), packed(128, 0), 0, 0, 7) == 9
    assert plain(nothing, packed(0, 3), 2, 0, 7) == 7 + 1 + 2 + 500
    assert plain(nothing, nothing, 0, 12, 7) == 7 + 1 + 100
    assert plain(nothing, nothing, 0, 10, 7) == 7 + 100
    assert plain(packed(1, 0), packed(2, 0), 0, 0, 7) == 7 - 103
    assert plain(packed(8, 0), packed(16, 0), 0, 0, 7) == 7 - 100
    assert plain(nothing, packed(1, 0), 0, 1, 7) == 7 - 3
    assert plain(nothing, packed(4, 0), 0, 0, 7) == 8
    assert deleting(packed(1, 0), nothing, 0, 0, 7) == 7 - 103 - 1
    assert (loss(5, 4), loss(4, 4), loss(3, 4), loss(9, 0)) == (0, -10_000, -100, 0)


@pytest.mark.parametrize(
    ("flag", "words", "follower", "expected"), [(2, 0, 1, True), (2, 1, 1, False), (0, 0, 1, False), (2, 0, 12, False)]
)
def test_a_space_may_be_deleted_before_letters_that_go_on(flag, words, follower, expected):
    assert bool(may_delete(packed(flag, words), follower)) is expected


def test_entries_are_words_of_eight_bytes(small_vocab):
    arrays = vocab_arrays(small_vocab)
    assert arrays.records.dtype == np.uint64
    assert arrays.records.size == 4 * len(small_vocab.records)
