"""The tokenizer of a GGUF file: rebuilt with the very same ids, or the one beside it, or one sentence."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.export.rwkv import rwkv_vocabulary
from stentor.model.gguf_file import GgufFile, open_gguf
from stentor.model.gguf_tokenizer import CONTROL, NORMAL, UNUSED, read_tokenizer
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings

TOKENS, KINDS, MERGES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges"))


@pytest.fixture
def file(write_model_gguf) -> GgufFile:
    """Return a file of ours whose metadata a test may change."""
    return open_gguf(write_model_gguf())


def test_ids_are_those_of_the_original(file, tiny_tokenizer):
    rebuilt = read_tokenizer(file)
    assert rebuilt.sha256 == tiny_tokenizer.sha256
    assert rebuilt.files() == tiny_tokenizer.files()
    strings = mixed_strings(1000, seed=7)
    assert rebuilt.encode_batch(strings) == tiny_tokenizer.encode_batch(strings)
    assert rebuilt.vocab_size == tiny_tokenizer.vocab_size
    for role in ("eos", "bos", "pad"):
        assert getattr(rebuilt, f"{role}_token_id") == getattr(tiny_tokenizer, f"{role}_token_id")


def test_a_larger_vocabulary_comes_back_too(write_model_gguf):
    tokenizer = train_bpe(mixed_strings(600, seed=1), vocab_size=900)
    rebuilt = read_tokenizer(open_gguf(write_model_gguf(tokenizer=tokenizer, vocab_size=1024)))
    strings = mixed_strings(2000, seed=8)
    assert rebuilt.encode_batch(strings) == tokenizer.encode_batch(strings)


@given(st.binary(max_size=60) | st.text(max_size=40))
def test_any_text_gets_the_same_ids(rebuilt_and_original, text):
    rebuilt, original = rebuilt_and_original
    assert rebuilt.encode(text) == original.encode(text)


@pytest.fixture(scope="module")
def rebuilt_and_original(tmp_path_factory, tiny_config, tiny_tokenizer, strong_tensors):
    from stentor.export.gguf_file import write_gguf

    path = tmp_path_factory.mktemp("rebuilt") / "m.gguf"
    write_gguf(path, tiny_config, strong_tensors(tiny_config), tiny_tokenizer, dtype="float16", name="tiny")
    return read_tokenizer(open_gguf(path)), tiny_tokenizer


def test_without_bos_and_pad_eos_stands_for_both(file, tiny_tokenizer):
    del file.metadata["tokenizer.ggml.bos_token_id"], file.metadata["tokenizer.ggml.padding_token_id"]
    rebuilt = read_tokenizer(file)
    assert rebuilt.bos_token_id == rebuilt.pad_token_id == rebuilt.eos_token_id == tiny_tokenizer.eos_token_id


# --- beside the file ---


def test_the_one_beside_the_file_is_taken(file, tiny_tokenizer):
    for name, data in tiny_tokenizer.files().items():
        write_file(file.path.with_name(name), data)
    file.metadata["tokenizer.ggml.pre"] = "something of others"
    assert read_tokenizer(file).sha256 == tiny_tokenizer.sha256


def test_another_models_beside_it_is_refused(file):
    for name, data in train_bpe(mixed_strings(200, seed=9), vocab_size=320).files().items():
        write_file(file.path.with_name(name), data)
    with pytest.raises(UserError, match=r"tokenizer\.json is not the tokenizer that .*m\.gguf was made with"):
        read_tokenizer(file)


def test_a_larger_one_beside_it_is_refused(file):
    for name, data in train_bpe(mixed_strings(600, seed=1), vocab_size=900).files().items():
        write_file(file.path.with_name(name), data)
    with pytest.raises(UserError, match="is not the tokenizer that"):
        read_tokenizer(file)


def test_one_that_ends_texts_otherwise_is_refused(file, tiny_tokenizer):
    for name, data in tiny_tokenizer.files().items():
        write_file(file.path.with_name(name), data)
    file.metadata["tokenizer.ggml.eos_token_id"] = tiny_tokenizer.bos_token_id
    with pytest.raises(UserError, match="is not the tokenizer that"):
        read_tokenizer(file)


@pytest.fixture
def monster_file(write_model_gguf, tiny_config, tiny_tokenmonster) -> GgufFile:
    """Return a file that carries the closest mapping of a TokenMonster vocabulary."""
    mapped = (rwkv_vocabulary(tiny_tokenmonster, tiny_config.vocab_size), {})
    return open_gguf(write_model_gguf(tokenizer=tiny_tokenmonster, mapped=mapped))


def test_a_tokenmonster_vocabulary_lies_beside_its_file(monster_file, tiny_tokenmonster):
    with pytest.raises(UserError, match="carries a tokenizer of the kind 'rwkv'") as caught:
        read_tokenizer(monster_file)
    assert "put the tokenmonster.vocab" in caught.value.fix
    for name, data in tiny_tokenmonster.files().items():
        write_file(monster_file.path.with_name(name), data)
    assert read_tokenizer(monster_file).sha256 == tiny_tokenmonster.sha256


def test_another_tokenmonster_vocabulary_is_refused(monster_file, tiny_tokenmonster):
    for name, data in tiny_tokenmonster.files().items():
        write_file(monster_file.path.with_name(name), data)
    monster_file.metadata["stentor.tokenizer_sha256"] = "0" * 64
    with pytest.raises(UserError, match=r"tokenmonster\.vocab is not the tokenizer that"):
        read_tokenizer(monster_file)


def test_a_tokenizer_json_beside_a_tokenmonster_file_is_not_its_own(monster_file, tiny_tokenizer):
    write_file(monster_file.path.with_name("tokenizer.json"), tiny_tokenizer.files()["tokenizer.json"])
    with pytest.raises(UserError, match="carries a tokenizer of the kind 'rwkv'"):
        read_tokenizer(monster_file)


# --- what cannot be rebuilt ---


def edited(name, change):
    def run(metadata):
        metadata[f"tokenizer.ggml.{name}"] = change(metadata[f"tokenizer.ggml.{name}"])

    return run


def put(values, index, value):
    values = list(values)
    values[index] = value
    return np.array(values) if isinstance(value, int) else values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited("model", lambda _: "llama"), "carries a tokenizer of the kind 'llama'"),
        (edited("pre", lambda _: "smollm"), "cuts words in the way 'smollm'"),
        (edited("pre", lambda _: None), "cuts words in the way 'default'"),
        (edited("tokens", lambda old: old[:-1]), "has 383 tokens and 384 kinds of them"),
        (edited("token_type", lambda old: put(old, 50, 4)), "of kind 4, whose ids Stentor cannot promise"),
        (edited("token_type", lambda old: put(old, 50, UNUSED)), "of kind 5, whose ids Stentor cannot promise"),
        (edited("token_type", lambda old: put(old, 0, NORMAL)), "names token 0 as EOS, which is no special token"),
        (edited("token_type", lambda old: put(old, 383, CONTROL)), "of kind 5"),
        (edited("eos_token_id", lambda _: 9999), "names token 9999 as EOS"),
        (edited("eos_token_id", lambda _: -1), "names token -1 as EOS"),
        (edited("eos_token_id", lambda _: "end"), "eos_token_id that is not a whole number"),
        (edited("tokens", lambda old: put(old, 50, old[51])), "no token has the id"),
        (edited("tokens", lambda old: put(old, 50, "")), "is empty|no token of its own"),
        (edited("tokens", lambda old: put(old, 50, "a b")), "not written in the byte-level alphabet|of its own"),
        (edited("merges", lambda old: [*old, "one"]), "a part is missing or of the wrong type"),
        (edited("merges", lambda old: [*old, "zq qz"]), "is refused by the tokenizers library"),
        (edited("merges", lambda _: 3), "merges that is not a list of texts"),
        (edited("tokens", lambda _: []), "has 0 tokens and 384 kinds"),
    ],
)
def test_a_vocabulary_that_cannot_be_promised_is_refused(file, change, said):
    change(file.metadata)
    if file.metadata["tokenizer.ggml.pre"] is None:
        del file.metadata["tokenizer.ggml.pre"]
    with pytest.raises(UserError, match=said) as caught:
        read_tokenizer(file)
    assert re.search(r"m\.gguf", caught.value.message)
    assert caught.value.fix


def test_a_file_without_any_vocabulary_is_refused(file):
    for key in (TOKENS, KINDS, MERGES):
        changed = GgufFile(file.path, {name: value for name, value in file.metadata.items() if name != key}, {})
        with pytest.raises(UserError, match=f"does not say its {re.escape(key)}"):
            read_tokenizer(changed)


def test_special_tokens_spelt_out_in_a_text_stay_text(file):
    rebuilt = read_tokenizer(file)
    assert rebuilt.eos_token_id not in rebuilt.encode("<|endoftext|>")
    assert json.loads(rebuilt.files()["tokenizer.json"])["added_tokens"][0]["special"] is True
