"""A TokenMonster model folder in two major versions of transformers: exact with `stentor.hf`, never wrong without."""

from __future__ import annotations

import pytest

from stentor.export.huggingface import export_huggingface
from stentor.model.folder import read_model_folder
from stentor.tokenizer.probes import mixed_strings

PROGRAM = "open_tokenmonster.py"
STRINGS = [*mixed_strings(1000, seed=6), "", "<|endoftext|> is text", "HELLO world's", "caf\u00e9\x00"]

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def exported(request, monster_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("external") / "exported"
    export_huggingface(monster_models[request.param], folder)
    return folder


def test_without_stentor_every_class_refuses_and_the_package_is_named(exported, consumer, record_opened):
    refusals = consumer.run(PROGRAM, exported)["answer"]
    assert not (exported / "tokenizer.json").exists()
    assert "Stentor" in refusals["AutoTokenizer"] or "pip install stentor" in refusals["AutoTokenizer"]
    for name, said in refusals.items():
        assert not said.startswith("OPENED"), name
        assert "stentor" in said.lower() or "requires the SentencePiece library" in said
    record_opened(
        file="huggingface, TokenMonster",
        consumer="transformers without stentor.hf",
        version=consumer.version,
        model=read_model_folder(exported).config.carrier,
        command=consumer.command(PROGRAM, "FOLDER"),
        agrees=[],
        difference=None,
        measure="refused, and the error names the package stentor",
    )


def test_with_stentor_hf_it_opens_as_any_tokenizer(exported, consumer, record_opened):
    tokenizer = read_model_folder(exported).require_tokenizer()
    ids = tokenizer.encode_batch(STRINGS)
    question = {"strings": STRINGS, "ids": ids, "texts": [tokenizer.decode(row) for row in ids]}
    answer = consumer.run(PROGRAM, exported, question=question, with_stentor=True)["answer"]
    generated_ids = answer.pop("generated_ids")
    assert generated_ids[:-5] == tokenizer.encode("The people of")
    known = [token_id for token_id in generated_ids if token_id < tokenizer.eos_token_id]
    assert known != generated_ids or answer["generated"] == tokenizer.decode(generated_ids)
    answer.pop("generated")
    assert all("stentor" in said.lower() or "SentencePiece" in said for said in answer.pop("refused_again").values())
    assert answer == {
        "class": "StentorTokenMonsterTokenizer",
        "different_ids": [],
        "different_texts": [],
        "padded": [row[:16] for row in ids[:8]],
        "padding": [tokenizer.pad_token_id],
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": 128,
        "same_ids_again": True,
    }
    record_opened(
        file="huggingface, TokenMonster",
        consumer="transformers with stentor.hf",
        version=consumer.version,
        model=read_model_folder(exported).config.carrier,
        command=f"PYTHONPATH=src {consumer.command(PROGRAM, 'FOLDER')}",
        agrees=["token ids", "texts", "batches", "saved and reopened"],
        difference=0.0,
        measure="token ids",
    )
