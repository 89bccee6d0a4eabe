"""TokenMonster as every stage uses it."""

import json
import pickle
import subprocess
import sys
import unicodedata
from functools import cache

import numba
import numpy as np
import pytest

from stentor import compiled
from stentor.artifacts import read_manifest
from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.base import Losses
from stentor.tokenizer.tokenmonster.load import is_tokenmonster
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.tokenizer import HOW_TO_OPEN, SPECIAL_TOKENS, TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab, write_vocab


@pytest.fixture(scope="module")
def english(vocabs) -> Tokenizer:
    return Tokenizer.load(vocabs / "english-8000-balanced-v1.vocab")


@pytest.fixture
def small(small_vocab) -> TokenMonsterTokenizer:
    return TokenMonsterTokenizer(small_vocab)


def test_special_tokens_come_above_the_last_id(english):
    assert (english.eos_token_id, english.bos_token_id, english.pad_token_id) == (8000, 8001, 8002)
    assert english.vocab_size == 8003
    assert english.vocab_size <= 8064


def test_special_tokens_are_placed_by_code_only(english):
    for content in SPECIAL_TOKENS.values():
        assert max(english.encode(content)) < 8000
        assert english.decode(english.encode(content)) == content
    assert english.decode([8000, *english.encode("Hi"), 8001, 8002]) == "Hi"
    assert english.token_bytes(8000) == b""


@pytest.mark.parametrize("text", ["Hello WORLD, it's 12:30.", "  caf\u00e9 \U0001f600\n", ""])
def test_round_trip_up_to_nfd(english, text):
    assert english.decode(english.encode(text)) == unicodedata.normalize("NFD", text)
    assert english.encode(text) == english.encode(text.encode())


def test_what_is_lost_is_known(english):
    assert isinstance(english, TokenMonsterTokenizer)
    assert english.keeps("Hello")
    assert not english.keeps("\u00e9")
    assert not english.keeps("\x01")


def test_lone_surrogates_become_question_marks(english):
    assert english.encode("a\ud800b") == english.encode("a?b")


@pytest.mark.parametrize("ids", [[-1], [8003], [3, 10**9], [2**40]])
def test_ids_beyond_the_vocabulary_are_refused(english, ids):
    with pytest.raises(UserError, match="outside the vocabulary of 8003"):
        english.decode(ids)
    with pytest.raises(UserError, match="outside"):
        english.token_bytes(ids[-1])


def test_saved_and_opened_again(small, tmp_path):
    small.save(tmp_path / "tok")
    assert read_manifest(tmp_path / "tok", kind="tokenizer").details["sha256"] == small.sha256
    again = Tokenizer.load(tmp_path / "tok")
    assert again.sha256 == small.sha256
    assert again.encode("the cat's world") == small.encode("the cat's world")
    config = json.loads((tmp_path / "tok" / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|endoftext|>"


def test_an_altered_folder_is_refused(small, tmp_path):
    small.save(tmp_path / "tok")
    file = tmp_path / "tok" / "tokenmonster.vocab"
    data = bytearray(pack_vocab(small.vocab))
    data[4] = 1  # another "reserve": still a sound vocabulary
    file.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="checksum"):
        Tokenizer.load(tmp_path / "tok")


def test_a_folder_of_several_is_refused(small_vocab, tmp_path):
    for name in ("a.vocab", "b.vocab"):
        write_vocab(tmp_path / name, small_vocab)
    with pytest.raises(UserError, match="several vocabularies"):
        Tokenizer.load(tmp_path)


def test_what_is_tokenmonster(tmp_path, small_vocab):
    assert is_tokenmonster("tokenmonster:x")
    assert is_tokenmonster("none/x.vocab")
    assert not is_tokenmonster(tmp_path)
    write_vocab(tmp_path / "x.vocab", small_vocab)
    assert is_tokenmonster(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not is_tokenmonster(tmp_path)


def test_a_missing_file_names_itself(tmp_path):
    with pytest.raises(UserError, match=r"none\.vocab cannot be read"):
        Tokenizer.load(tmp_path / "none.vocab")


def test_it_travels_to_workers(small):
    again = pickle.loads(pickle.dumps(small))
    assert again.sha256 == small.sha256
    assert again.encode("the cat") == small.encode("the cat")


def test_nothing_compiles_until_it_is_wanted():
    code = "import stentor, sys; from stentor.tokenizer import Tokenizer; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_place_where_nothing_can_be_cached(monkeypatch):
    """numba then refuses to decorate; the kernel works all the same."""

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", njit)

    @compiled.kernel
    def twice(number: int) -> int:
        return 2 * number

    assert twice(21) == 42


@pytest.mark.parametrize(
    ("text", "num_lost_bytes"),
    [
        (b"Hello World", 0),
        (b"caf\xc3\xa9", 0),  # comes back decomposed: another form, and nothing lost
        (b"a\x00b\x01C", 2),
        (b"\xff\xfe", 2),
        ("\u00e9\x07".encode(), 1),
        (b"", 0),
    ],
)
def test_losses_are_counted_by_document_and_byte(english, text, num_lost_bytes):
    ids = english.encode(text)
    is_lossy = english.decode_bytes(ids) != text
    assert english.losses([text], [ids]) == Losses(int(is_lossy), num_lost_bytes)
    texts = [text, b"and plain text", text]
    expected = Losses(2 * int(is_lossy), 2 * num_lost_bytes)
    assert english.losses(texts, english.encode_batch(texts)) == expected


def test_lost_bytes_are_those_that_the_slow_twin_finds_no_token_for(english, make_inputs):
    twin = Reference(english.vocab)
    for text in make_inputs(300, 5, english.vocab.pieces()):
        prepared, lost = twin.prepare(text), 0
        while prepared:
            match = next((size for size in range(40, 0, -1) if prepared[:size] in twin_tokens(twin)), 0)
            lost, prepared = lost + (match == 0), prepared[match or 1 :]
        assert english.losses([text], [english.encode(text)]).num_lost_bytes == lost


@cache
def twin_tokens(twin: Reference) -> frozenset[bytes]:
    return frozenset(record.token for record in twin.vocab.records)


def test_documents_decode_together_as_apart(english):
    texts = ["HELLO", "world's end", "  In", "\n", "A", "b", ""]
    joined = [token_id for text in texts for token_id in (*english.encode(text), english.eos_token_id)]
    assert english.decode(joined) == "".join(texts)
    assert english.decode_bytes(np.array(joined, np.uint16)) == "".join(texts).encode()


def test_the_folder_says_how_to_open_it(small):
    config = json.loads(small.files(model_max_length=64)["tokenizer_config.json"])
    assert config["model_max_length"] == 64
    assert config["tokenizer_class"].startswith("Stentor")
    assert list(config["added_tokens_decoder"]) == [HOW_TO_OPEN]
    assert "pip install stentor" in HOW_TO_OPEN


def test_arrays_hold_the_ids_of_the_lists(small_vocab):
    tokenizer = TokenMonsterTokenizer(small_vocab)
    texts = ["Hello the world", b"\xff the", ""]
    arrays = tokenizer.encode_arrays(texts, 1)
    assert [array.tolist() for array in arrays] == tokenizer.encode_batch(texts)
    assert {array.dtype.name for array in arrays} == {"uint32"}
