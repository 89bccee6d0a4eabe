"""The vocabulary of the fewest tokens: it has the fewest, loses nothing, and stock transformers gives the same ids."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import verify_directory
from stentor.errors import UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.unigram import UnigramTokenizer, train_unigram

SIZE = 700


@pytest.fixture(scope="module")
def unigram(texts) -> UnigramTokenizer:
    return train_unigram(texts[:250], vocab_size=SIZE, is_fast=True)


@pytest.fixture(scope="module")
def folder(unigram, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unigram") / "tokenizer"
    unigram.save(folder)
    return folder


@pytest.fixture(scope="module")
def stock(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def fewest_ids(tokenizer: Tokenizer, text: bytes) -> list[int]:
    """Segment line by line into the fewest tokens; of equals the one whose last tokens are the longest."""
    id_of = {tokenizer.token_bytes(index): index for index in range(tokenizer.vocab_size - 3)}
    ids: list[int] = []
    lines, line = [], b""
    for position in range(len(text)):
        line += text[position : position + 1]
        if line.endswith(b"\n") and text[position + 1 : position + 2] != b"\n":
            lines.append(line)
            line = b""
    for whole in [*lines, line]:
        best: list[list[int]] = [[]]
        for end in range(1, len(whole) + 1):
            ways = [[*best[start], id_of[whole[start:end]]] for start in range(end) if whole[start:end] in id_of]
            best.append(min(ways, key=len))
        ids += best[-1]
    return ids


# --- what it is ---


def test_bytes_first_and_specials_above(unigram):
    assert unigram.vocab_size == SIZE
    assert {unigram.token_bytes(i) for i in range(256)} == {bytes([byte]) for byte in range(256)}
    assert (unigram.eos_token_id, unigram.bos_token_id, unigram.pad_token_id) == (SIZE - 3, SIZE - 2, SIZE - 1)
    assert unigram.token_bytes(SIZE - 1) == b""
    tokens = [unigram.token_bytes(i) for i in range(SIZE - 3)]
    assert tokens == sorted({*tokens}, key=lambda token: (len(token), token))


def test_no_token_goes_on_behind_a_line_end(unigram):
    for index in range(SIZE):
        token = unigram.token_bytes(index)
        assert b"\n" not in token.rstrip(b"\n"), token


@given(st.one_of(st.text(max_size=60), st.text("bdfgaeiou \n\r.", max_size=80)))
def test_ids_are_the_fewest(unigram, text):
    assert unigram.encode(text) == fewest_ids(unigram, text.encode(errors="replace"))


def test_mixed_strings_have_the_fewest(unigram):
    for text in mixed_strings(300, seed=3):
        assert unigram.encode(text) == fewest_ids(unigram, text.encode())


@given(st.binary(max_size=200))
def test_any_bytes_come_back(unigram, data):
    ids = unigram.encode(data)
    assert unigram.decode_bytes(ids) == data


def test_equals_are_the_same_wherever_they_stand(unigram):
    ids = unigram.encode("aaa bbb " * 4000)
    period = len(ids) // 4000
    assert ids[period : 2 * period] * 3990 == ids[period : 3991 * period]


def test_fewer_tokens_than_bpe_of_its_size(unigram, texts):
    from stentor.tokenizer.bpe import train_bpe

    bpe = train_bpe(texts[:250], vocab_size=SIZE)
    ours, theirs = (sum(map(len, tokenizer.encode_batch(texts[:250]))) for tokenizer in (unigram, bpe))
    assert ours < theirs


@pytest.mark.slow
def test_long_texts_are_cut_where_it_does_not_matter(unigram, monkeypatch):
    text = "\n".join(mixed_strings(200, seed=5)) + "\n\n\nend"
    whole = unigram.encode(text)
    monkeypatch.setattr("stentor.tokenizer.unigram.PIECE_CHARACTERS", 50)
    assert unigram.encode(text) == whole
    assert unigram.encode_batch([text, b"\xff" + text.encode()], num_threads=2)[0] == whole


# --- training ---


def test_threads_do_not_matter(unigram, texts):
    assert train_unigram(iter(texts[:250]), vocab_size=SIZE, is_fast=True, num_workers=3).sha256 == unigram.sha256


def test_a_stopped_training_goes_on_to_the_same_file(unigram, texts, tmp_path):
    def stop(detail: str, share: float | None) -> None:
        if detail.startswith("swap 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_unigram(texts[:250], vocab_size=SIZE, is_fast=True, state_dir=tmp_path / "state", say=stop)
    resumed = train_unigram(texts[:250], vocab_size=SIZE, is_fast=True, state_dir=tmp_path / "state")
    assert resumed.sha256 == unigram.sha256


@pytest.mark.parametrize(("size", "message"), [(259, "ask for 260"), (10**7, "to 120000")])
def test_sizes_that_cannot_be_are_refused(size, message):
    with pytest.raises(UserError, match=message):
        train_unigram(["text"], vocab_size=size)


def test_too_little_text_is_told_how_many_tokens_it_gives():
    with pytest.raises(UserError, match=r"gives only \d+ tokens, 797 were asked for"):
        train_unigram(["some words, some words"], vocab_size=800)


# --- folders ---


def test_the_folder_is_sealed_and_opens(unigram, folder):
    assert verify_directory(folder, kind="tokenizer").details["vocab_size"] == SIZE
    for place in (folder, folder / "tokenizer.json"):
        loaded = Tokenizer.load(place)
        assert isinstance(loaded, UnigramTokenizer)
        assert loaded.sha256 == unigram.sha256
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_stock_transformers_gives_the_same_ids(unigram, stock):
    strings = mixed_strings(3000, seed=11)
    assert stock(strings)["input_ids"] == unigram.encode_batch(strings)
    for text in strings[:300]:
        assert stock.decode(unigram.encode(text), skip_special_tokens=True) == text


def test_stock_transformers_knows_the_special_tokens(unigram, stock):
    assert (stock.eos_token_id, stock.bos_token_id, stock.pad_token_id) == (SIZE - 3, SIZE - 2, SIZE - 1)
    assert len(stock) == SIZE
    assert not {SIZE - 3, SIZE - 2, SIZE - 1} & {*unigram.encode("<|endoftext|><|padding|> <|beginoftext|>")}


def test_what_transformers_saves_again_is_the_same_tokenizer(unigram, stock, tmp_path):
    stock.save_pretrained(tmp_path)
    assert Tokenizer.load(tmp_path).sha256 == unigram.sha256


def test_gguf_is_refused_in_one_sentence(unigram, tmp_path):
    pytest.importorskip("gguf")
    from stentor.export.gguf_file import write_gguf
    from stentor.model.config import ModelConfig

    with pytest.raises(UserError, match="tokenizer"):
        write_gguf(tmp_path / "m.gguf", ModelConfig(vocab_size=1024), {}, unigram, dtype="float32", name="m")
