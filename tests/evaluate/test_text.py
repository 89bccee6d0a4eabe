"""Evaluation of raw text, against a slow twin that scores one token at a time."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from stentor.artifacts import staged_directory, write_file
from stentor.errors import UserError
from stentor.evaluate.baselines import baselines
from stentor.evaluate.text import encode_documents, evaluate
from stentor.model.folder import ModelFolder, read_model_folder, write_model_folder
from stentor.model.names import expected_shapes
from stentor.runtime.engine import load
from stentor.tokenizer.base import Losses

SPECIALS = "<|endoftext|><|beginoftext|><|padding|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tiny_tokenizer) -> ModelFolder:
    """Return a model with large random weights, whose every probability is its own."""
    generator = torch.Generator().manual_seed(3)
    tensors = {
        name: 0.3 * torch.randn(shape, generator=generator) for name, shape in expected_shapes(tiny_config).items()
    }
    path = tmp_path_factory.mktemp("evaluate") / "model"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors, tiny_tokenizer)
    return read_model_folder(path)


def slow_nats(folder: ModelFolder, texts: list[bytes]) -> list[float]:
    """Score one token at a time: each sees what stands before it in its window, the first one an EOS."""
    tokenizer, model = folder.require_tokenizer(), folder.build()
    stream = [tokenizer.eos_token_id]
    for text in texts:
        stream += [*tokenizer.encode(text), tokenizer.eos_token_id]
    nats = []
    for place in range(1, len(stream)):
        window_start = (place - 1) // folder.config.max_position_embeddings * folder.config.max_position_embeddings
        with torch.no_grad():
            logits_V = model(torch.tensor([stream[window_start:place]]))[0, -1].double()
        nats.append(-float(logits_V.log_softmax(-1)[stream[place]]))
    return nats


TEXTS = {
    "one": ["The people of this world have not been here."],
    "several": ["When he was one", "then she said so.", "Of all"],
    "exactly a window": ["a" * 31],
    "a window and a token": ["a" * 32],
    "long": ["which is that it was for on are as with his they at " * 9, "no"],
    "one character": ["a"],
    "with an empty one": ["", "but not this one", ""],
    "beyond ascii": ["caf\u00e9 \U0001f600 \u4e2d\u6587\r\n\t  x"],
    "bytes": [b"caf\xc3\xa9 \xff\xfe\x00 not utf-8", "and text"],
    "lone surrogates": ["a \ud800 b \udcff"],
    "specials spelt out": [SPECIALS, f"x{SPECIALS}"],
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS.keys())
def test_numbers_equal_those_of_the_slow_twin(folder, texts):
    data = [text if isinstance(text, bytes) else text.encode(errors="replace") for text in texts]
    nats = slow_nats(folder, data)
    total, num_bytes = math.fsum(nats), sum(map(len, data))
    result = evaluate(folder.path, texts)
    assert (result.num_tokens, result.num_bytes) == (len(nats), num_bytes)
    assert result.loss_nats == pytest.approx(total / len(nats), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(total / len(nats)), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(total / math.log(2) / num_bytes, rel=1e-5)


def test_each_document_is_followed_by_eos_and_eos_has_no_bytes(folder, tiny_tokenizer):
    eos = tiny_tokenizer.eos_token_id
    encoded = encode_documents(tiny_tokenizer, ["one", "caf\u00e9", ""])
    assert encoded.token_ids.tolist() == [
        *tiny_tokenizer.encode("one"),
        eos,
        *tiny_tokenizer.encode("caf\u00e9"),
        eos,
        eos,
    ]
    assert encoded.num_bytes == 3 + 5
    assert evaluate(folder.path, ["one", "two"]).num_bytes == 6


def test_documents_that_spell_special_tokens_are_plain_text(tiny_tokenizer):
    encoded = encode_documents(tiny_tokenizer, [SPECIALS])
    special = {tiny_tokenizer.eos_token_id, tiny_tokenizer.bos_token_id, tiny_tokenizer.pad_token_id}
    assert not special & set(encoded.token_ids[:-1].tolist())
    assert encoded.num_bytes == len(SPECIALS)
    assert tiny_tokenizer.decode(encoded.token_ids) == SPECIALS


def test_where_a_document_ends_matters(folder):
    assert evaluate(folder.path, ["of the people"]).loss_nats != evaluate(folder.path, ["of the", " people"]).loss_nats


def test_order_matters_and_company_does_not_change_bytes(folder):
    forth, back = evaluate(folder.path, ["when we", "there can"]), evaluate(folder.path, ["there can", "when we"])
    assert forth.loss_nats != back.loss_nats
    assert (forth.num_tokens, forth.num_bytes) == (back.num_tokens, back.num_bytes)


def test_text_is_measured_as_it_is_uncleaned(folder):
    assert evaluate(folder.path, ["a\r\n\r\n  b\u00a0c\ufb01"]).num_bytes == len("a\r\n\r\n  b\u00a0c\ufb01".encode())


def test_a_str_and_its_bytes_are_the_same(folder):
    assert evaluate(folder.path, ["caf\u00e9"]) == evaluate(folder.path, ["caf\u00e9".encode()])
    assert evaluate(folder.path, ["\ud800"]) == evaluate(folder.path, [b"?"])


def test_a_stream_of_more_documents_than_a_batch_is_read_whole(folder, tiny_tokenizer):
    texts = [f"document {number}" for number in range(600)]
    encoded = encode_documents(tiny_tokenizer, iter(texts))
    eos = tiny_tokenizer.eos_token_id
    assert encoded.token_ids.tolist() == [
        token_id for text in texts for token_id in (*tiny_tokenizer.encode(text), eos)
    ]
    assert encoded.num_bytes == sum(map(len, texts))
    assert evaluate(folder.path, (text for text in texts)).num_tokens == len(encoded.token_ids)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(320, np.uint16), (65_536, np.uint16), (128_256, np.uint32)])
def test_ids_of_any_vocabulary_fit(vocab_size, dtype):
    class Numbers:
        eos_token_id = 0

        def encode_batch(self, texts):
            return [[vocab_size - 1] * len(text) for text in texts]

        def losses(self, texts, ids):
            return Losses()

    tokenizer = Numbers()
    tokenizer.vocab_size = vocab_size  # type: ignore[attr-defined]
    ids = encode_documents(tokenizer, ["ab"]).token_ids  # type: ignore[arg-type]
    assert ids.dtype == dtype
    assert ids.tolist() == [vocab_size - 1, vocab_size - 1, 0]


@pytest.mark.parametrize("texts", [[], [""], ["", b""], iter(())])
def test_no_text_is_refused(folder, texts):
    with pytest.raises(UserError, match="no text to evaluate on") as caught:
        evaluate(folder.path, texts)
    assert "not empty" in caught.value.fix


def test_a_path_a_string_and_a_loaded_model_are_the_same_model(folder):
    loaded = load(folder.path, dtype="float32")
    assert evaluate(loaded, ["of it"]) == evaluate(folder.path, ["of it"]) == evaluate(str(folder.path), ["of it"])


def test_a_model_without_tokenizer_is_refused(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        write_file(tmp_path / name, (folder.path / name).read_bytes())
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        evaluate(tmp_path, ["text"])


def test_progress_ends_at_the_whole(folder):
    seen = []
    result = evaluate(folder.path, ["when we there can an your which " * 40], on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (result.num_tokens, result.num_tokens)


def test_the_numbers_have_documented_names(folder):
    value = json.loads(json.dumps(evaluate(folder.path, ["text"]).to_dict()))
    assert list(value) == [
        "loss_nats",
        "perplexity",
        "bits_per_byte",
        "num_tokens",
        "num_bytes",
        "num_lossy_documents",
        "num_lost_bytes",
    ]


# --- a tokenizer that changes lengths and loses bytes ---


@pytest.fixture(scope="module")
def monster(tmp_path_factory, folder, tiny_tokenmonster) -> ModelFolder:
    """Return the same model with a TokenMonster vocabulary."""
    path = tmp_path_factory.mktemp("evaluate") / "monster"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(staging, folder.config, folder.tensors, tiny_tokenmonster)
    return read_model_folder(path)


@pytest.mark.parametrize(
    ("texts", "losses"),
    [
        (["The people of THIS world have not been here."], Losses(0, 0)),
        (["caf\u00e9", "and \u1e69", "of"], Losses(2, 0)),  # decomposed: more bytes than were given
        (["a\x00\x01b", b"\xff in between", "of it"], Losses(2, 3)),
        ([SPECIALS], Losses(0, 0)),
        (["\x00", "for"], Losses(1, 1)),
    ],
)
def test_bits_per_byte_divide_by_the_text_as_it_was_given(monster, texts, losses):
    data = [text if isinstance(text, bytes) else text.encode() for text in texts]
    nats = slow_nats(monster, data)
    result = evaluate(monster.path, texts)
    assert result.num_bytes == sum(map(len, data))
    assert result.bits_per_byte == pytest.approx(math.fsum(nats) / math.log(2) / sum(map(len, data)), rel=1e-5)
    assert Losses(result.num_lossy_documents, result.num_lost_bytes) == losses


def test_a_text_of_nothing_but_lost_bytes_still_has_its_bytes(monster):
    result = evaluate(monster.path, ["\x00" * 7])
    assert (result.num_tokens, result.num_bytes, result.num_lost_bytes) == (1, 7, 7)


def test_baselines_take_the_same_bytes(monster, tiny_tokenmonster):
    texts = ["The people of THIS world", "caf\u00e9 \x00"]
    assert baselines(texts, tiny_tokenmonster).num_bytes == evaluate(monster.path, texts).num_bytes
