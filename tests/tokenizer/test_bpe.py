import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from stentor.errors import UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import LLAMA3_PATTERN, rebuild_bpe, train_bpe
from stentor.tokenizer.probes import mixed_strings

any_text = st.text(max_size=200)
wordy_text = st.text(alphabet="abAB'st \n\r\t.!\u00e9\u0301\u65e512", max_size=200)


@pytest.fixture(scope="module")
def library(tokenizer) -> Backend:
    """The plain library on the file that we ship: the reference for every id."""
    backend = Backend.from_str(tokenizer.files()["tokenizer.json"].decode())
    backend.encode_special_tokens = True
    return backend


# --- what it is ---


def test_has_exactly_the_tokens_asked_for_and_specials_first(tokenizer):
    assert tokenizer.vocab_size == 800
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert [tokenizer.token_bytes(i) for i in range(3)] == [b"", b"", b""]
    assert {tokenizer.token_bytes(i) for i in range(3, 259)} == {bytes([byte]) for byte in range(256)}
    assert all(tokenizer.token_bytes(i) for i in range(3, 800))


def test_file_says_what_llama_cpp_does(raw):
    assert raw["model"]["ignore_merges"] is True
    assert raw["normalizer"] is None
    assert raw["post_processor"] is None
    assert raw["pre_tokenizer"]["pretokenizers"][0]["pattern"] == {"Regex": LLAMA3_PATTERN}


def test_pattern_is_llama_3s():
    written_in_one = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    assert written_in_one == LLAMA3_PATTERN


@pytest.mark.parametrize("token_id", [-1, 800, 10**9])
def test_unknown_ids_are_refused(tokenizer, token_id):
    with pytest.raises(UserError, match="outside the vocabulary of 800 tokens"):
        tokenizer.decode([token_id])


# --- text to ids and back ---


@given(text=st.one_of(any_text, wordy_text))
def test_ids_are_the_librarys_and_text_comes_back(tokenizer, library, text):
    ids = tokenizer.encode(text)
    assert ids == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text.encode()) == ids


@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(tokenizer, data):
    ids = tokenizer.encode(data)
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.decode(ids) == data.decode(errors="replace")


@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_lone_surrogates_are_replaced(tokenizer, text):
    assert tokenizer.encode(text) == tokenizer.encode(text.encode(errors="replace"))


def test_bytes_that_are_not_utf8_become_single_byte_tokens(tokenizer):
    before, invalid, after = tokenizer.encode("ba"), tokenizer.encode(b"\xff\xed\xa0\x80"), tokenizer.encode("na")
    assert [tokenizer.token_bytes(i) for i in invalid] == [b"\xff", b"\xed", b"\xa0", b"\x80"]
    assert tokenizer.encode(b"ba\xff\xed\xa0\x80na") == before + invalid + after


@pytest.mark.parametrize("special", ["<|endoftext|>", "<|beginoftext|>", "<|padding|>"])
@pytest.mark.parametrize("frame", ["{}", "a{}b", " {} ", "\n{}\n"])
def test_specials_in_a_text_are_plain_text(tokenizer, special, frame):
    text = frame.format(special)
    ids = tokenizer.encode(text)
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.decode(ids) == text


def test_specials_are_skipped_in_decoding(tokenizer):
    ids = tokenizer.encode("bana")
    assert tokenizer.decode([1, *ids, 0, 2]) == "bana"


def test_mixed_strings_come_back(tokenizer, library):
    strings = mixed_strings(2000)
    encoded = tokenizer.encode_batch(strings)
    assert encoded == [library.encode(text, add_special_tokens=False).ids for text in strings]
    assert [tokenizer.decode(ids) for ids in encoded] == strings


# --- batches, threads, long texts ---


@pytest.mark.parametrize("num_threads", [None, 1, 2, 3])
def test_ids_do_not_depend_on_threads_or_company(tokenizer, num_threads):
    batch = [*mixed_strings(300), b"\xff ab \xfe", "", b"", "bana " * 20_000]
    assert tokenizer.encode_batch(batch, num_threads=num_threads) == [tokenizer.encode(text) for text in batch]


def test_no_texts_give_no_ids(tokenizer):
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("") == tokenizer.encode(b"") == []


def test_long_text_has_the_ids_of_the_whole(tokenizer, library):
    text = " ".join(mixed_strings(1500, seed=3)) + " plain words" * 5000
    assert len(text) > 5 * 16_384
    assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["a" * 50_000, " " * 50_000, "\n" * 50_000, "\u6771" * 30_000, "!" * 50_000])
def test_monotonous_text_is_no_trap(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- learning ---


def test_same_texts_give_the_same_file(texts, tokenizer):
    assert train_bpe(iter(texts), vocab_size=800).files() == tokenizer.files()


def test_one_thread_gives_the_same_file_as_two(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import generated_texts\n"
        "from stentor.tokenizer.bpe import train_bpe\n"
        "print(train_bpe(generated_texts(150), vocab_size=600).sha256)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],  # noqa: PTH120
            env={**os.environ, "RAYON_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def test_golden_vocabulary():
    """A change here changes every vocabulary that will ever be learned: it is a new format, not a fix."""
    tokenizer = train_bpe(["the cat sat on the mat. the cat's hat, 1234 times!\n"] * 3, vocab_size=280)
    learned = [tokenizer.token_bytes(i) for i in range(259, 280)]
    assert b"|".join(learned) == b"at|he|the|cat| the| cat|!\n|'s|12|es|hat|im|mat|on|sat|tim| hat| mat| on| sat| tim"
    assert tokenizer.encode("the cat sat on 1234 mats\n") == [261, 264, 278, 277, 223, 267, 21, 22, 276, 85, 201]


def test_too_little_text_names_the_number_reached():
    with pytest.raises(UserError, match=r"the text gives only 26\d tokens, 8000 were asked for") as caught:
        train_bpe(["one two"])
    reached = int(str(caught.value).split("only ")[1].split()[0])
    assert f"a vocabulary of {reached} or less" in caught.value.fix
    assert train_bpe(["one two"], vocab_size=reached).vocab_size == reached


def test_no_text_still_names_the_number_reached():
    with pytest.raises(UserError, match="only 259 tokens"):
        train_bpe([], vocab_size=300)


@pytest.mark.parametrize("vocab_size", [-5, 0, 258])
def test_too_small_a_vocabulary_is_refused(vocab_size):
    with pytest.raises(UserError, match="too small") as caught:
        train_bpe(["text"], vocab_size=vocab_size)
    assert "259" in caught.value.fix


def test_learns_from_lone_surrogates():
    assert train_bpe(["ab \ud800 ab"], vocab_size=260).vocab_size == 260


# --- files ---


def test_files_are_what_stock_readers_want(tokenizer):
    files = tokenizer.files(model_max_length=256)
    assert sorted(files) == ["tokenizer.json", "tokenizer_config.json"]
    assert json.loads(files["tokenizer_config.json"]) == {
        "add_bos_token": False,
        "bos_token": "<|beginoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": 256,
        "pad_token": "<|padding|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    assert "model_max_length" not in json.loads(tokenizer.files()["tokenizer_config.json"])
    assert tokenizer.sha256 == hashlib.sha256(files["tokenizer.json"]).hexdigest()


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "saved")
    loaded = Tokenizer.load(tmp_path / "saved")
    assert loaded.files() == tokenizer.files()
    assert loaded.sha256 == tokenizer.sha256


# --- a vocabulary as GGUF files carry it ---


def parts_of(tokenizer):
    """Return what `rebuild_bpe` takes, read from a tokenizer's file."""
    raw = json.loads(tokenizer.files()["tokenizer.json"])
    tokens = [token for token, _ in sorted(raw["model"]["vocab"].items(), key=lambda entry: entry[1])]
    return tokens, [" ".join(merge) for merge in raw["model"]["merges"]], {token["id"] for token in raw["added_tokens"]}


def test_a_vocabulary_is_rebuilt_as_the_very_same_file(tiny_tokenizer):
    tokens, merges, special_ids = parts_of(tiny_tokenizer)
    roles: dict[str, int] = {"eos": 0, "bos": 1, "pad": 2}
    rebuilt = rebuild_bpe(tokens, merges, special_ids=special_ids, roles=roles, where="here")
    assert rebuilt.files(64) == tiny_tokenizer.files(64)


def test_a_rebuilt_vocabulary_keeps_the_rules_of_every_other(tiny_tokenizer):
    tokens, merges, special_ids = parts_of(tiny_tokenizer)
    roles: dict[str, int] = dict.fromkeys(("eos", "bos", "pad"), 0)
    with pytest.raises(UserError, match=r"here is no byte-level BPE that Stentor can use: .* has no token of its own"):
        rebuild_bpe([*tokens[:3], *tokens[4:]], [], special_ids=special_ids, roles=roles, where="here")
    with pytest.raises(UserError, match="here is refused by the tokenizers library"):
        rebuild_bpe(tokens, [*merges, "zz zz"], special_ids=special_ids, roles=roles, where="here")
