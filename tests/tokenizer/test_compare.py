"""Comparison of tokenizers: every number, found again in a plain way."""

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.compare import BANDS, Comparison, TokenizerReport, compare, shared_tokens
from stentor.tokenizer.measure import measure
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import Settings

LETTERS = [bytes([byte]) for byte in b" abcdefghijklmnopqrstuvwxyz.,'\nCDW\xcc\x81"]


def monster(*tokens: bytes) -> TokenMonsterTokenizer:
    settings = Settings(capcode=2)
    return TokenMonsterTokenizer(build_vocab(numbered(dict.fromkeys([*LETTERS, *tokens], 0.1)), settings))


@pytest.fixture(scope="module")
def small(texts) -> Tokenizer:
    return train_bpe(texts, vocab_size=400)


@pytest.fixture(scope="module")
def compared(tokenizer, small, texts) -> Comparison:
    return compare({"large": tokenizer, "small": small}, iter(texts))


def test_counts_are_those_of_measure(compared, tokenizer, texts):
    report, measured = compared.reports["large"], measure(tokenizer, texts)
    assert (report.num_documents, report.num_bytes) == (measured.num_documents, measured.num_bytes)
    assert report.num_tokens == measured.num_tokens
    assert report.bytes_per_token == measured.bytes_per_token
    assert report.context_bytes == round(1024 * measured.bytes_per_token)
    assert report.encode_mb_per_second > 0


def test_the_order_is_that_given(compared):
    assert list(compared.reports) == ["large", "small"]
    assert compared.reports["large"].bytes_per_token > compared.reports["small"].bytes_per_token


def test_an_embedding_is_padded(compared):
    assert compared.reports["large"].embedding_parameters == 832 * 256
    assert compared.reports["small"].embedding_parameters == 448 * 256


def test_bpe_keeps_everything(compared, texts):
    report = compared.reports["large"]
    assert report.num_exact_documents == report.num_equal_documents == len(texts)
    assert report.num_lost_bytes == 0


def test_words_fall_into_bands_by_rank(compared, tokenizer, texts):
    words = Counter(re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", "\n".join(texts)))
    ranked = sorted(words, key=lambda word: (-words[word], word))
    common, rest = ranked[: BANDS[0]], ranked[BANDS[0] : BANDS[1]]
    assert compared.words_by_band[:2] == (sum(words[w] for w in common), sum(words[w] for w in rest))
    assert sum(compared.words_by_band) == words.total()
    tokens = sum(words[word] * len(tokenizer.encode(f" {word}")) for word in common)
    assert compared.reports["large"].tokens_per_word[0] == pytest.approx(tokens / compared.words_by_band[0])
    first, second = compared.reports["large"].tokens_per_word[:2]
    assert first is not None
    assert second is not None
    assert first < second  # what is common is one token


def test_a_band_without_words_has_no_number(small):
    found = compare({"it": small}, ["one two two"])
    assert found.words_by_band == (3, 0, 0, 0)
    assert found.reports["it"].tokens_per_word[1:] == (None, None, None)


def test_shared_tokens_are_counted_from_both_sides(tokenizer, small):
    shared = shared_tokens({"large": tokenizer, "small": small})
    large_tokens = {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)} - {b""}
    small_tokens = {small.token_bytes(i) for i in range(small.vocab_size)} - {b""}
    both = len(large_tokens & small_tokens)
    assert shared == {("large", "small"): both / len(large_tokens), ("small", "large"): both / len(small_tokens)}
    assert shared["small", "large"] > 0.9  # both were learned from the same text


def test_one_tokenizer_shares_with_nobody(tokenizer):
    assert shared_tokens({"it": tokenizer}) == {}


# --- TokenMonster: capitals, decomposition and bytes without a token ----------------------------------------


def test_tokens_are_compared_as_they_are_read():
    """` the` behind a delete marker is `the`; markers alone are no text."""
    one, other = monster(b" the", b"hat"), monster(b" the", b"cat", b" cat")
    shared = shared_tokens({"one": one, "other": other})
    assert 0.8 < shared["one", "other"] < 1
    assert shared["one", "other"] != shared["other", "one"]


def test_decomposition_and_loss_are_told_apart():
    found = compare({"it": monster(b" the")}, ["the cat", "caf\u00e9", "a 7 b", "x\u4e2dy"]).reports["it"]
    assert (found.num_documents, found.num_exact_documents, found.num_equal_documents) == (4, 1, 2)
    assert found.num_lost_bytes == len("7") + len("\u4e2d".encode())
    assert found.num_bytes == sum(len(text.encode()) for text in ("the cat", "caf\u00e9", "a 7 b", "x\u4e2dy"))


@given(st.lists(st.text(alphabet="abc \u00e97\u4e2d"), min_size=1))
def test_nothing_is_lost_twice(texts):
    tokenizer = monster(b" abc")
    if not any(tokenizer.encode(text) for text in texts):
        return
    found = compare({"it": tokenizer}, texts).reports["it"]
    uncovered = sum(len(character.encode()) for text in texts for character in text if character in "7\u4e2d")
    assert found.num_lost_bytes == uncovered
    plain = [text for text in texts if unicodedata.normalize("NFD", text) == text]
    assert found.num_exact_documents == sum("7" not in text and "\u4e2d" not in text for text in plain)


def test_families_stand_side_by_side(tokenizer, texts):
    found = compare({"bpe": tokenizer, "monster": monster(b" the", b"ing")}, texts)
    assert found.reports["bpe"].num_bytes == found.reports["monster"].num_bytes
    assert found.reports["monster"].num_exact_documents < found.reports["bpe"].num_exact_documents


# --- mistakes and form --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [[], ["", ""]])
def test_no_text_is_refused(tokenizer, nothing):
    with pytest.raises(UserError, match="no text to compare"):
        compare({"it": tokenizer}, nothing)


def test_surrogates_count_as_they_are_encoded(tokenizer):
    assert compare({"it": tokenizer}, ["a\ud800"]).reports["it"].num_bytes == 2


def test_a_report_as_a_dictionary_has_what_follows_from_it(compared):
    report = compared.reports["large"]
    value = report.to_dict()
    assert value["bytes_per_token"] == report.bytes_per_token
    assert value["embedding_parameters"] == report.embedding_parameters
    fields = {name: value[name] for name in TokenizerReport.__dataclass_fields__}
    assert TokenizerReport(**fields) == report
