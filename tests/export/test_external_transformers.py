"""Our folders in stock transformers of two major versions, in environments that have no Stentor."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from stentor.export.huggingface import DTYPES, RELATIVE_LOGIT_LIMIT, export_huggingface
from stentor.export.source import make_question, our_logits, read_source
from stentor.finetune.run import RELATIVE_LOGIT_LIMIT as ADAPTER_LIMIT
from stentor.finetune.run import finetune
from stentor.finetune.settings import FinetuneSettings
from stentor.tokenizer.probes import mixed_strings

from .conftest import NUM_GENERATED, PROMPT

PROGRAM = "open_in_transformers.py"
AGREES = ("an empty loading report", "token ids", "logits", "greedy text", "saved and reopened to the bit")
ADAPTER_PROGRAM = "open_adapter.py"
TUNING = FinetuneSettings(rank=4, epochs=0.5, lr=1e-2, batch=4, validation="take:4")
CASES = [("llama", "float32"), ("qwen3", "float32"), ("untied", "float32"), ("stentor-12m", "float32")]
CASES += [("stentor-12m", dtype) for dtype in ("float16", "bfloat16")]

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_stock_transformers_opens_the_export(
    models, shipped, tmp_path, consumer, greedy_text, record_opened, name, dtype
):
    folder = tmp_path / "exported"
    export_huggingface(shipped if name == "stentor-12m" else models[name], folder, dtype=dtype)
    difference = opened_in_transformers(consumer, folder, dtype=dtype, text=greedy_text(folder))
    record_opened(
        file=f"huggingface {dtype}",
        consumer="transformers",
        version=consumer.version,
        model=name,
        command=consumer.command(PROGRAM, "FOLDER"),
        agrees=AGREES,
        difference=difference,
        measure="logits",
    )


@pytest.mark.parametrize("name", ["llama", "qwen3", "stentor-12m"])
def test_stock_peft_opens_an_adapter_and_stock_transformers_what_was_merged(
    models, shipped, tmp_path, consumer, greedy_text, prose_documents, record_opened, name
):
    base, text = shipped if name == "stentor-12m" else models[name], tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in prose_documents(40)))
    finetune(base, str(text), tmp_path / "tuned", TUNING, device="cpu", watch=unwatched, on_step=lambda _: None)
    adapter, merged = tmp_path / "tuned" / "adapter", tmp_path / "tuned" / "merged"
    row = {"version": consumer.version, "model": name, "measure": "logits"}
    difference = opened_in_transformers(consumer, merged, dtype="float32", text=greedy_text(merged))
    command = consumer.command(PROGRAM, "FOLDER")
    record_opened(
        file="finetune, merged/", consumer="transformers", command=command, agrees=AGREES, difference=difference, **row
    )

    source = read_source(merged, dtype="float32")
    question = make_question(source, merged)
    logits = our_logits(source.config, source.tensors, question)
    asked = {"window": question.window, "positions": question.positions, "logits": logits.tolist()}
    asked |= {"base": str(base), "merged": str(merged), "prompt": PROMPT, "num_generated": NUM_GENERATED}
    found = consumer.run(ADAPTER_PROGRAM, adapter, question=asked)
    limit = ADAPTER_LIMIT * max(1.0, float(np.abs(logits).max()))
    differences = found.pop("max_logit_differences")
    assert max(differences.values()) <= limit < found.pop("difference_from_the_base")
    assert found == {"warnings": [], "generated": greedy_text(merged)}
    record_opened(
        file="finetune, adapter/",
        consumer="peft, beside transformers",
        command=consumer.command(ADAPTER_PROGRAM, "FOLDER"),
        agrees=["logits of merged/", "greedy text"],
        difference=max(differences.values()),
        **row,
    )


@contextlib.contextmanager
def unwatched(label):
    yield lambda *_: None


def opened_in_transformers(consumer, folder, *, dtype, text) -> float:
    """Require that a folder opens as it was written and writes a text; return the largest difference of its logits."""
    source = read_source(folder, dtype="float32")
    question = make_question(source, folder)
    strings = mixed_strings(2000, seed=5)
    logits = our_logits(source.config, source.tensors, question)
    found = consumer.run(
        PROGRAM,
        folder,
        question={
            "strings": strings,
            "ids": source.tokenizer.encode_batch(strings),
            "window": question.window,
            "positions": question.positions,
            "logits": logits.tolist(),
            "prompt": PROMPT,
            "num_generated": NUM_GENERATED,
        },
    )
    difference = found.pop("max_logit_difference")
    assert difference <= RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(logits).max()))
    tokenizer = source.tokenizer
    assert dtype in DTYPES
    assert found == {
        "dtype": dtype,
        "loading": {},
        "warnings": [],
        "is_one_tensor": source.config.tie_word_embeddings,
        "different_ids": [],
        "different_texts": [],
        "generated": text,
        "same_tensors_again": True,
        "same_bytes_again": True,
        "loading_again": {},
        "same_ids_again": True,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": source.config.max_position_embeddings,
        "rope_theta": source.config.rope_theta,
    }
    return difference
