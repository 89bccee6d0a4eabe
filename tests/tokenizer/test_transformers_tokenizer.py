"""Tokenizers of transformers behind our interface: their own ids, and the bytes of each token."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from stentor.errors import UserError
from stentor.tokenizer.bpe import BpeTokenizer
from stentor.tokenizer.transformers_tokenizer import TransformersTokenizer, as_own, open_transformers_tokenizer

SPECIAL = ["<s>", "</s>"]


def wrapped(backend: Backend, **options: Any) -> transformers.PreTrainedTokenizerFast:
    options = {"eos_token": "</s>", "bos_token": "<s>", **options}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **options)


def sentencepiece_like(texts: list[str], *, prepends: bool) -> transformers.PreTrainedTokenizerFast:
    """Return a BPE as Llama 2 has it: spaces as U+2581, bytes as <0xNN>, a space before each text, BOS added."""
    made: Any = Backend(models.BPE(byte_fallback=True, unk_token=None))
    if prepends:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer: Any = trainers.BpeTrainer(vocab_size=400, special_tokens=[*SPECIAL, *byte_tokens], show_progress=False)
    made.train_from_iterator(texts, trainer)
    # Only the first two are special; the trainer knows no other way to keep the bytes.
    raw = made.to_str()
    made = Backend.from_str(_only_special(raw))
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return wrapped(made)


def _only_special(raw: str) -> str:
    import json

    table = json.loads(raw)
    table["added_tokens"] = [token for token in table["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(table)


@pytest.fixture(scope="module", params=[True, False], ids=["prepends a space", "plain"])
def sentencepiece(request, prose_documents):
    theirs = sentencepiece_like(prose_documents(60), prepends=request.param)
    own = as_own(theirs, where="this")
    assert isinstance(own, TransformersTokenizer)
    return own


def test_a_vocabulary_by_our_rules_becomes_our_own(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save(tmp_path / "own")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "own")
    own = as_own(theirs, where="this")
    assert isinstance(own, BpeTokenizer)
    assert own.sha256 == tiny_tokenizer.sha256
    assert own.eos_token_id == tiny_tokenizer.eos_token_id
    assert open_transformers_tokenizer(tmp_path / "own").sha256 == own.sha256


@given(text=st.text(max_size=40))
def test_byte_level_with_a_rule_broken_has_the_bytes_of_every_token(tiny_tokenizer, text):
    backend: Any = Backend.from_str(tiny_tokenizer.files()["tokenizer.json"].decode())
    backend.normalizer = normalizers.NFC()
    own = as_own(wrapped(backend, eos_token="<|endoftext|>", bos_token=None), where="this")
    assert isinstance(own, TransformersTokenizer)
    assert own.eos_token_id == own.bos_token_id == own.pad_token_id == tiny_tokenizer.eos_token_id
    assert [own.token_bytes(i) for i in range(own.vocab_size)] == [
        tiny_tokenizer.token_bytes(i) for i in range(tiny_tokenizer.vocab_size)
    ]
    ids = own.encode(text)
    assert own.decode(ids) == backend.normalizer.normalize_str(text.encode(errors="replace").decode())


@given(text=st.text(max_size=40))
def test_spaces_and_bytes_come_back_wherever_a_text_begins(sentencepiece, text):
    ids = sentencepiece.encode(text)
    assert sentencepiece.decode(ids) == text.encode(errors="replace").decode()
    assert sentencepiece.encode(" " + text)[:1] != sentencepiece.encode(text)[:1] or text.startswith(" ")
    assert sentencepiece.bos_token_id not in ids


def test_bytes_that_are_no_text(sentencepiece):
    data = b"the \xff\xc3 people"
    assert sentencepiece.decode_bytes(sentencepiece.encode(data)) == data


def test_special_tokens_in_a_text_are_plain_text(sentencepiece):
    ids = sentencepiece.encode("the </s> end")
    assert sentencepiece.eos_token_id not in ids
    assert sentencepiece.decode(ids) == "the </s> end"
    assert sentencepiece.token_bytes(sentencepiece.eos_token_id) == b""


def test_the_ids_are_those_of_transformers(sentencepiece):
    text = " the people who were"
    theirs = sentencepiece._tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
    assert theirs[-len(sentencepiece.encode(text)) :] == sentencepiece.encode(text)


def test_a_folder_of_another_family_is_opened(sentencepiece, tmp_path):
    sentencepiece._tokenizer.save_pretrained(tmp_path)
    opened = open_transformers_tokenizer(tmp_path)
    assert opened.encode("the people") == sentencepiece.encode("the people")
    assert opened.vocab_size == sentencepiece.vocab_size
    assert opened.files().keys() == {"tokenizer.json"}


def test_what_cannot_be_used_is_refused(tmp_path, prose_documents):
    words = Backend(models.WordLevel({"a": 0, "</s>": 1, "<s>": 2}, unk_token="a"))
    with pytest.raises(UserError, match="the tokens of this do not stand for bytes"):
        as_own(wrapped(words), where="this")
    without_end = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    with pytest.raises(UserError, match="does not say which token ends a text"):
        as_own(without_end, where="this")
    with pytest.raises(UserError, match="transformers opens no tokenizer at"):
        open_transformers_tokenizer(tmp_path)
    with pytest.raises(UserError, match="is no fast one"):
        as_own(object(), where="this")  # pyright: ignore[reportArgumentType]
