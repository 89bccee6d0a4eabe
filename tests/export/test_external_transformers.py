"""Our folders in stock transformers of two major versions, in environments that have no Stentor."""

from __future__ import annotations

import numpy as np
import pytest

from stentor.export.huggingface import DTYPES, RELATIVE_LOGIT_LIMIT, export_huggingface
from stentor.export.source import make_question, our_logits, read_source
from stentor.tokenizer.probes import mixed_strings

from .conftest import NUM_GENERATED, PROMPT

PROGRAM = "open_in_transformers.py"
AGREES = ("an empty loading report", "token ids", "logits", "greedy text", "saved and reopened to the bit")
CASES = [("llama", "float32"), ("qwen3", "float32"), ("untied", "float32"), ("stentor-12m", "float32")]
CASES += [("stentor-12m", dtype) for dtype in ("float16", "bfloat16")]

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_stock_transformers_opens_the_export(
    models, shipped, tmp_path, consumer, greedy_text, record_opened, name, dtype
):
    folder = tmp_path / "exported"
    export_huggingface(shipped if name == "stentor-12m" else models[name], folder, dtype=dtype)
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
        "generated": greedy_text(folder),
        "same_tensors_again": True,
        "same_bytes_again": True,
        "loading_again": {},
        "same_ids_again": True,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": source.config.max_position_embeddings,
        "rope_theta": source.config.rope_theta,
    }
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
