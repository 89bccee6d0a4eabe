"""`import stentor.hf`: a TokenMonster vocabulary behaves in transformers as any tokenizer, with our ids and text."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.hf import StentorTokenMonsterTokenizer, token_labels
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import HOW_TO_OPEN, SPECIAL_TOKENS, TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import Settings

EOS = SPECIAL_TOKENS["eos"]


@pytest.fixture(scope="module")
def ours(tiny_tokenmonster) -> TokenMonsterTokenizer:
    return tiny_tokenmonster


@pytest.fixture(scope="module")
def folder(ours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "tokenizer"
    ours.save(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_plain_from_pretrained_gives_our_class(theirs, ours):
    assert type(theirs) is StentorTokenMonsterTokenizer
    assert len(theirs) == theirs.vocab_size == ours.vocab_size
    assert not theirs.is_fast
    assert theirs.all_special_tokens == [SPECIAL_TOKENS[role] for role in ("bos", "eos", "pad")]
    special = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert special == (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id)


def test_ids_and_texts_are_ours(theirs, ours):
    strings = mixed_strings(1000, seed=4)
    ids = theirs(strings)["input_ids"]
    assert ids == ours.encode_batch(strings)
    assert theirs.batch_decode(ids) == [ours.decode(row) for row in ids]


@given(text=st.text(max_size=40))
def test_any_string_gives_our_ids(theirs, ours, text):
    assert theirs(text)["input_ids"] == ours.encode(text)


@given(ids=st.lists(st.integers(0, 267), max_size=30))
def test_any_ids_give_our_text(theirs, ours, ids):
    assert theirs.decode(ids) == ours.decode(ids)
    assert theirs.convert_tokens_to_string(theirs.convert_ids_to_tokens(ids)) == ours.decode(ids)


def test_a_single_id_is_decoded(theirs, ours):
    assert theirs.decode(ours.encode(" people")[0]) == " people"


def test_tokens_have_names_and_the_names_have_ids(theirs, ours):
    vocab = theirs.get_vocab()
    assert sorted(vocab.values()) == list(range(ours.vocab_size))
    assert theirs.convert_tokens_to_ids(theirs.convert_ids_to_tokens(list(range(ours.vocab_size)))) == list(
        range(ours.vocab_size)
    )
    assert theirs.tokenize(" people") == ["\u0120people"]


def test_batches_are_padded_truncated_and_masked(theirs, ours):
    batch = theirs(["The people of this world", "a"], padding=True, truncation=True, max_length=5)
    rows = ours.encode_batch(["The people of this world", "a"])
    assert batch["input_ids"][0] == rows[0][:5]
    assert batch["input_ids"][1] == rows[1] + [ours.pad_token_id] * (5 - len(rows[1]))
    assert batch["attention_mask"][1] == [1] * len(rows[1]) + [0] * (5 - len(rows[1]))
    assert set(batch) == {"input_ids", "attention_mask"}
    left = theirs(["a", "The people"], padding=True, padding_side="left", return_tensors="pt")
    assert left["input_ids"][0, 0] == ours.pad_token_id


def test_nothing_is_put_around_a_text(theirs):
    assert theirs("of")["input_ids"] == theirs("of", add_special_tokens=False)["input_ids"]
    pair = theirs("of", "the")["input_ids"]
    assert pair == theirs("of")["input_ids"] + theirs("the")["input_ids"]


def test_special_tokens_spelt_out_are_text_unless_asked_for(theirs, ours):
    assert theirs(EOS)["input_ids"] == ours.encode(EOS)
    assert theirs(f"{EOS}of", split_special_tokens=False)["input_ids"] == [ours.eos_token_id, *ours.encode("of")]


def test_special_tokens_are_shown_or_skipped(theirs, ours):
    ids = [*ours.encode("HELLO"), ours.eos_token_id, *ours.encode("world"), ours.pad_token_id]
    assert theirs.decode(ids) == f"HELLO{EOS}world{SPECIAL_TOKENS['pad']}"
    assert theirs.decode(ids, skip_special_tokens=True) == "HELLOworld"


def test_rows_that_only_pad_the_embedding_stand_for_nothing(theirs, ours):
    assert theirs.decode([ours.vocab_size, *ours.encode("of"), ours.vocab_size + 50]) == "of"
    assert theirs.convert_ids_to_tokens(ours.vocab_size + 50) == ""


def test_saved_and_opened_again(theirs, ours, tmp_path):
    from transformers import AutoTokenizer

    saved = theirs.save_pretrained(tmp_path)
    assert {"tokenmonster.vocab", "tokenizer_config.json"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "tokenizer.json").exists()
    assert str(tmp_path / "tokenmonster.vocab") in saved
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert HOW_TO_OPEN in config["added_tokens_decoder"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    strings = mixed_strings(50, seed=9)
    assert again(strings)["input_ids"] == ours.encode_batch(strings)
    assert Tokenizer.load(tmp_path).sha256 == ours.sha256


def test_added_tokens_are_kept(folder, ours, tmp_path):
    tokenizer = StentorTokenMonsterTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens(["<|user|>"]) == 1
    tokenizer.save_pretrained(tmp_path)
    again = StentorTokenMonsterTokenizer.from_pretrained(tmp_path)
    assert again("<|user|>of", split_special_tokens=False)["input_ids"] == [ours.vocab_size, *ours.encode("of")]
    assert again.decode([ours.vocab_size, *ours.encode("of")]) == "<|user|>of"


def test_a_prefix_goes_before_the_files_name(theirs, tmp_path):
    assert theirs.save_vocabulary(str(tmp_path), "mine") == (str(tmp_path / "mine-tokenmonster.vocab"),)


def test_it_travels_to_workers(theirs, ours):
    for copied in (pickle.loads(pickle.dumps(theirs)), copy.deepcopy(theirs)):
        assert copied("The people")["input_ids"] == ours.encode("The people")


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2TokenizerFast"])
def test_another_class_refuses_the_folder_and_names_the_package(folder, name, caplog):
    import transformers

    with pytest.raises(ValueError, match="pip install stentor"), caplog.at_level(logging.ERROR, "transformers"):
        getattr(transformers, name).from_pretrained(folder)


def test_a_folder_without_its_vocabulary_is_refused(folder, tmp_path):
    (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    with pytest.raises(UserError, match=r"no tokenmonster\.vocab to open"):
        StentorTokenMonsterTokenizer.from_pretrained(tmp_path)


def test_names_are_unique_even_for_unk_and_a_token_spelt_like_eos():
    settings = Settings(capcode=0)
    tokens = {EOS.encode(): 0.0, b"a": 0.0, b" ": 0.0}
    tokenizer = TokenMonsterTokenizer(build_vocab(numbered(tokens), settings, unk_id=3))
    labels = token_labels(tokenizer)
    assert len(set(labels)) == len(labels) == tokenizer.vocab_size
    assert labels[tokenizer.eos_token_id] == EOS


def test_without_transformers_the_extra_is_named():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "try:\n    import stentor.hf\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("MissingDependencyError")
    assert "stentor[hf]" in said
