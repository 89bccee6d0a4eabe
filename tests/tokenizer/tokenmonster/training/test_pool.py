"""Tables made for a choice of tokens are those made from the tokens alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tables import vocab_arrays
from stentor.tokenizer.tokenmonster.training import pool as module
from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.vocab_file import Settings

MARKERS = {0: b"", 1: b"\x7f", 2: b"D"}


def check_against_the_builder(pool: Pool, is_chosen: np.ndarray) -> None:
    chosen = [token for token, keeps in zip(pool.tokens, is_chosen, strict=True) if keeps]
    vocab = build_vocab(numbered(dict.fromkeys(chosen, 0.0)), pool.settings)
    expected, found = vocab_arrays(vocab), pool.arrays(is_chosen)
    assert found is not None
    for name in ("cells", "roots", "singles", "records", "begin_byte"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    records = pool.chosen_records(is_chosen)
    spelt = [pool.data[pool.starts[r] : pool.starts[r + 1]].tobytes() for r in records]
    assert spelt == [record.token for record in vocab.records]
    assert [pool.tokens[pool.token_of[r]] for r in records] == [chosen[record.id] for record in vocab.records]
    if pool.settings.capcode:
        assert spelt[found.delete_id] == pool.settings.delete_marker


def pool_of(tokens: list[bytes], level: int) -> Pool:
    singles = frozenset(bytes([byte]) for byte in b" ab" + MARKERS[level])
    return Pool(dict.fromkeys(tokens, 7), singles, Settings(capcode=level))


PARTS = [b" ", b"a", b"b", b"ab", b"1", b".", b"'s", b"C", b"D", b"W", b"\n", b"-", b"_", "\u00e9".encode(), b"\x7f"]
token_lists = st.lists(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map(b"".join), max_size=40, unique=True
)


@settings(max_examples=150)
@given(token_lists, st.integers(0, 2), st.randoms(use_true_random=False))
def test_any_choice_gives_the_tables_of_its_tokens(tokens, level, source):
    pool = pool_of(tokens, level)
    is_chosen = np.array([fixed or source.random() < 0.6 for fixed in pool.is_fixed])
    check_against_the_builder(pool, is_chosen)


@pytest.mark.parametrize("name", ["english-4096-balanced-v1", "english-8000-consistent-nocapcode-v1"])
def test_published_tokens_and_halves_of_them(published, name):
    vocab = published(name)
    tokens = [record.token for record in vocab.records if not record.is_duplicate]
    fixed = frozenset(token for token in tokens if len(token) == 1)
    pool = Pool(dict.fromkeys(tokens, 7), fixed, vocab.settings)
    every = np.ones(len(tokens), np.bool_)
    check_against_the_builder(pool, every)
    half = np.random.default_rng(3).random(len(tokens)) < 0.5
    check_against_the_builder(pool, half | pool.is_fixed)


def test_fixed_tokens_are_known(small_tokens):
    pool = pool_of(small_tokens, 2)
    assert {token for token, fixed in zip(pool.tokens, pool.is_fixed, strict=True) if fixed} == {b" ", b"a", b"b", b"D"}
    assert pool.lengths.sum() == pool.data.size
    assert dict(zip(pool.tokens, pool.counts.tolist(), strict=True)) == {
        b"D": 7,
        b" ": 7,
        **dict.fromkeys(small_tokens, 7),
    }


def test_tokens_are_spelt_plainly(small_tokens):
    pool = pool_of(small_tokens, 2)
    data, starts = pool.bytes_of(np.arange(len(pool.tokens)))
    spelt = [data[start:end].tobytes() for start, end in itertools.pairwise(starts)]
    assert spelt == pool.tokens


def test_a_choice_beyond_the_tables_is_told(small_tokens, monkeypatch):
    pool = pool_of(small_tokens, 2)
    monkeypatch.setattr(module, "MAX_RECORDS", 10)
    assert pool.arrays(np.ones(len(pool.tokens), np.bool_)) is None
