"""What two vocabularies share, and a text followed from one in the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.runtime.speculative.vocabularies import (
    MAX_UNSETTLED_BYTES,
    OtherVocabulary,
    is_same_vocabulary,
    shared_tokens,
    unfinished,
)
from stentor.tokenizer.bpe import train_bpe


@pytest.fixture(scope="module")
def other_tokenizer(prose_documents):
    return train_bpe([text.replace("th", "z") for text in prose_documents(60)], vocab_size=300)


@pytest.fixture(scope="module", params=["bpe to other", "other to bpe", "bpe to tokenmonster", "tokenmonster to bpe"])
def pair(request, tiny_tokenizer, other_tokenizer, tiny_tokenmonster):
    named = {"bpe": tiny_tokenizer, "other": other_tokenizer, "tokenmonster": tiny_tokenmonster}
    source, _, tokenizer = request.param.partition(" to ")
    return named[source], named[tokenizer]


# --- shared tokens ---


def test_shared_tokens_are_those_of_equal_bytes_and_eos(pair):
    target, draft = pair
    shared = shared_tokens(target, draft)
    ids = dict(zip(np.asarray(shared.draft_ids).tolist(), np.asarray(shared.target_ids).tolist(), strict=True))
    assert ids.pop(draft.eos_token_id) == target.eos_token_id
    assert len(set(ids.values())) == len(ids) == shared.num_tokens - 1
    for draft_id, target_id in ids.items():
        assert target.decode_bytes([target_id]) == draft.decode_bytes([draft_id]) != b""
    texts = {target.decode_bytes([i]) for i in range(target.vocab_size)}
    texts &= {draft.decode_bytes([i]) for i in range(draft.vocab_size)}
    assert len(ids) == len(texts - {b""})


def test_logits_of_the_draft_in_the_targets_ids(pair):
    target, draft = pair
    shared, vocab_size = shared_tokens(target, draft), target.vocab_size + 7
    draft_logits_V = np.random.default_rng(0).normal(size=draft.vocab_size).astype(np.float32)
    logits_V = shared.to_target(draft_logits_V, vocab_size)
    assert logits_V.shape == (vocab_size,)
    draft_id_of = shared.draft_id_of()
    assert draft_id_of is not None
    for token_id in range(vocab_size):
        if token_id in draft_id_of:
            assert logits_V[token_id] == draft_logits_V[draft_id_of[token_id]]
        else:
            assert logits_V[token_id] == -np.inf


def test_the_same_vocabulary_is_shared_as_it_is(tiny_tokenizer, other_tokenizer, tiny_tokenmonster):
    assert is_same_vocabulary(tiny_tokenizer, tiny_tokenizer)
    assert not is_same_vocabulary(tiny_tokenizer, other_tokenizer)
    assert not is_same_vocabulary(tiny_tokenizer, tiny_tokenmonster)
    shared = shared_tokens(tiny_tokenizer, tiny_tokenizer)
    assert shared.draft_id_of() is None
    draft_logits_V = np.arange(tiny_tokenizer.vocab_size)
    logits_V = shared.to_target(draft_logits_V, 384)
    np.testing.assert_array_equal(logits_V[: tiny_tokenizer.vocab_size], draft_logits_V)
    assert np.isneginf(logits_V[tiny_tokenizer.vocab_size :]).all()


def test_a_file_written_otherwise_holds_the_same_vocabulary(tiny_tokenizer, tmp_path):
    """Such as one with other merges for the same tokens: ids mean the same text."""
    from stentor.tokenizer.bpe import BpeTokenizer
    from stentor.tokenizer.bpe_file import parse_bpe_file
    from stentor.tokenizer.library import SpecialTokens

    data = tiny_tokenizer.files()["tokenizer.json"].replace(b'"ignore_merges": true', b'"ignore_merges": false')
    other = BpeTokenizer(parse_bpe_file(data, "this"), SpecialTokens())
    assert other.sha256 != tiny_tokenizer.sha256
    assert is_same_vocabulary(tiny_tokenizer, other)


# --- a text followed ---


@given(
    prompt=st.text(max_size=12),
    words=st.lists(st.sampled_from(["the", " the", " people", "pe", "\n", ".", " \u00e9t\u00e9", "\U0001f600"])),
    data=st.data(),
)
def test_the_ids_are_always_those_of_the_text(pair, prompt, words, data):
    source, tokenizer = pair
    prompt_ids = source.encode(prompt) or [source.eos_token_id]
    token_ids = [*prompt_ids, *(token_id for word in words for token_id in source.encode(word))]
    other, length = OtherVocabulary(source, tokenizer), len(prompt_ids)
    while True:
        output_ids = other.follow(token_ids[:length], len(prompt_ids))
        decoder = source.streaming_decoder()
        text = decoder.push(token_ids[: len(prompt_ids)])
        assert other.prompt_ids == (tokenizer.encode(text) or [tokenizer.eos_token_id])
        added = decoder.push(token_ids[len(prompt_ids) : length])
        if hasattr(tokenizer, "vocab"):  # TokenMonster keeps a text decomposed, and not every byte
            assert output_ids or not tokenizer.encode(added)
        else:
            assert tokenizer.decode_bytes(output_ids) == added
        if length == len(token_ids):
            return
        length = min(len(token_ids), length + data.draw(st.integers(1, 4)))


@given(token_ids=st.lists(st.integers(0, 299), min_size=1, max_size=60), sizes=st.lists(st.integers(1, 9), max_size=20))
def test_broken_characters_are_followed_byte_by_byte(tiny_tokenizer, other_tokenizer, token_ids, sizes):
    other, length = OtherVocabulary(tiny_tokenizer, other_tokenizer), 1
    for size in [0, *sizes]:
        length = min(len(token_ids), length + size)
        output_ids = other.follow(token_ids[:length], 1)
        assert other_tokenizer.decode_bytes(output_ids) == tiny_tokenizer.decode_bytes(token_ids[1:length])


def test_ids_are_those_that_the_whole_text_would_have(pair, prose_documents):
    """Words are boundaries of tokens, so what is settled early is what encoding all of it gives."""
    source, tokenizer = pair
    text = prose_documents(3)[2]
    prompt_ids, output_ids = source.encode("The people"), source.encode(" were " + text)
    other = OtherVocabulary(source, tokenizer)
    for length in range(0, len(output_ids) + 1, 3):
        followed = other.follow(prompt_ids + output_ids[:length], len(prompt_ids))
        decoder = source.streaming_decoder()
        decoder.push(prompt_ids)
        whole = tokenizer.encode(decoder.push(output_ids[:length]))
        if hasattr(tokenizer, "vocab"):
            assert sum(a == b for a, b in zip(followed, whole, strict=False)) >= 0.7 * len(whole)
        else:
            assert followed == whole


def test_a_text_without_words_is_cut_all_the_same(tiny_tokenizer, other_tokenizer):
    other, ids = OtherVocabulary(tiny_tokenizer, other_tokenizer), tiny_tokenizer.encode("\u4e2d\u6587" * 400)
    for length in range(1, len(ids), 50):
        output_ids = other.follow(ids[:length], 1)
        assert len(other._unsettled) <= MAX_UNSETTLED_BYTES + 50
        assert other_tokenizer.decode_bytes(output_ids) == tiny_tokenizer.decode_bytes(ids[1:length])


@given(st.text(max_size=6), st.integers(0, 3))
def test_only_the_beginning_of_a_character_is_unfinished(text, num_cut):
    data = text.encode(errors="replace")
    cut = data[: len(data) - num_cut]
    left = unfinished(cut)
    assert cut.endswith(left)
    whole = cut[: len(cut) - len(left)]
    assert whole.decode() == cut.decode(errors="ignore")


def test_what_can_become_no_character_is_not_waited_for():
    assert unfinished(b"a\xff") == b""
    assert unfinished(b"\x80\x80") == b""
    assert unfinished(b"a\xe2\x82") == b"\xe2\x82"
