"""Counts and costs against the slow encoder and plain search."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.training import scoring as module
from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.training.scoring import fewest_tokens_for, measure_usage, removal_costs
from stentor.tokenizer.tokenmonster.vocab_file import Settings


@pytest.fixture(scope="module")
def pool(small_tokens) -> Pool:
    tokens = {*small_tokens, *(bytes([byte]) for byte in range(0x20, 0x7F))}
    return Pool(dict.fromkeys(tokens, 1), frozenset(token for token in tokens if len(token) == 1), Settings(capcode=2))


@pytest.fixture(scope="module")
def everything(pool):
    return pool.arrays(np.ones(len(pool.tokens), np.bool_))


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_uses_are_those_of_the_slow_encoder(pool, everything, prepared, monkeypatch, every, num_workers):
    monkeypatch.setattr(module, "_PART_BYTES", 700)
    with ThreadPoolExecutor(num_workers) as threads:
        usage = measure_usage(everything, prepared, threads, every)
    vocab = build_vocab(numbered(dict.fromkeys(pool.tokens, 0.0)), pool.settings)
    reference = Reference(vocab)
    expected = np.zeros(len(pool.tokens), np.int64)
    for document in range(0, prepared.num_documents, every):
        text = prepared.data[prepared.starts[document] : prepared.starts[document + 1] - 1].tobytes()
        np.add.at(expected, reference.tokenize(text)[0], 1)
    found = np.zeros(len(pool.tokens), np.int64)
    np.add.at(found, pool.token_of, usage.uses)
    assert np.array_equal(found, expected)
    assert usage.num_tokens == expected.sum()


def test_a_document_longer_than_the_room_for_ids(everything):
    from stentor.tokenizer.tokenmonster.training.text import prepare_texts

    prepared = prepare_texts(["zq" * 100_000], capcode=2, num_workers=1)
    with ThreadPoolExecutor(1) as threads:
        assert measure_usage(everything, prepared, threads).num_tokens > 1 << 17


def fewest(spelling: bytes, tokens: set[bytes]) -> int:
    """Return the least number of these tokens that spell something; its length where none do."""
    best = {0: 0}
    for end in range(1, len(spelling) + 1):
        options = [best[start] + 1 for start in range(end) if start in best and spelling[start:end] in tokens]
        if options:
            best[end] = min(options)
    return best.get(len(spelling), len(spelling))


def test_costs_are_those_of_the_best_spelling_without_the_token(pool, everything):
    uses = np.arange(pool.token_of.size)
    spellings = [pool.data[a : a + n].tobytes() for a, n in zip(pool.starts, pool.lengths, strict=False)]
    for record, cost in enumerate(removal_costs(everything, uses, pool.token_of)):
        others = {s for s, token in zip(spellings, pool.token_of, strict=True) if token != pool.token_of[record]}
        assert cost == record * (fewest(spellings[record], others) - 1), spellings[record]


def test_strings_outside_cost_the_tokens_of_their_best_spelling(pool, everything):
    strings = [b"the cat", b" hello world", b"zzz", b" cat's", b"\xff\xfe"]
    starts = np.cumsum([0, *map(len, strings)], dtype=np.int64)
    spellings = {pool.data[a : a + n].tobytes() for a, n in zip(pool.starts, pool.lengths, strict=False)}
    found = fewest_tokens_for(everything, np.frombuffer(b"".join(strings), np.uint8), starts)
    assert found.tolist() == [fewest(string, spellings) for string in strings]
