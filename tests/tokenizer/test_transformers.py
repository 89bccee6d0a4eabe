"""Stock transformers, from the folder alone, gives our ids; what it saves again is still our tokenizer."""

import pytest

from stentor.tokenizer import Tokenizer
from stentor.tokenizer.probes import mixed_strings

SPECIALS = "<|endoftext|> a<|padding|>b\n<|beginoftext|>"


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "tokenizer"
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def stock(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_ids_are_the_same(tokenizer, stock):
    strings = mixed_strings(3000, seed=11)
    assert stock(strings)["input_ids"] == tokenizer.encode_batch(strings)


def test_text_comes_back(tokenizer, stock):
    for text in mixed_strings(300, seed=12):
        ids = tokenizer.encode(text)
        assert stock.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text


def test_broken_characters_decode_alike(tokenizer, stock):
    for text in mixed_strings(300, seed=13):
        ids = tokenizer.encode(text.encode()[1:-1])
        assert stock.decode(ids) == tokenizer.decode(ids)


def test_special_tokens_are_known(tokenizer, stock):
    assert (stock.eos_token_id, stock.bos_token_id, stock.pad_token_id) == (0, 1, 2)
    assert len(stock) == tokenizer.vocab_size
    assert stock(SPECIALS)["input_ids"][0] == 0
    assert stock.decode([0], skip_special_tokens=True) == ""


def test_split_special_tokens_is_our_reading(tokenizer, folder):
    from transformers import AutoTokenizer

    stock = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    strings = [SPECIALS, *mixed_strings(1000, seed=14)]
    assert stock(strings)["input_ids"] == tokenizer.encode_batch(strings)


def test_what_it_saves_again_is_the_same_tokenizer(tokenizer, stock, tmp_path):
    stock.save_pretrained(tmp_path)
    saved = Tokenizer.load(tmp_path)
    assert saved.sha256 == tokenizer.sha256
    assert (saved.eos_token_id, saved.bos_token_id, saved.pad_token_id) == (0, 1, 2)


def test_context_length_reaches_it(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    for name, data in tokenizer.files(256).items():
        (tmp_path / name).write_bytes(data)
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 256
