"""Our GGUF files in every reader there is here: llama.cpp, our own engine, and transformers' own reader."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import stentor
from stentor.export.gguf import export_gguf
from stentor.export.huggingface import RELATIVE_LOGIT_LIMIT, export_huggingface
from stentor.export.source import make_question, our_logits, read_source
from stentor.tokenizer.probes import mixed_strings

from .conftest import HERE, NUM_GENERATED, PROMPT

DTYPES = ("float32", "float16", "q8_0", "q5_0", "q4_0")
K_QUANTS = ("q6_k", "q5_k_m", "q4_k_m")
"""Their rows are multiples of 256."""
READER = "open_gguf_in_transformers.py"
LLAMA_CPP = metadata.version("xllamacpp")

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


def llama_cpp_text(file: Path) -> str:
    program = [sys.executable, HERE / "open_in_llama_cpp.py", file, PROMPT, str(NUM_GENERATED)]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["version"] == LLAMA_CPP
    return answer["text"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product(("llama", "stentor-12m"), (*DTYPES, "q5_1", "q4_1")),
        *itertools.product(("stentor-12m",), ("int8", *K_QUANTS)),
    ],
)
def test_llama_cpp_and_our_engine_open_the_same_file(
    models, shipped, tmp_path, greedy_text, record_opened, name, dtype
):
    """llama.cpp rounds on its way and our engine does not, so rounded weights may part the texts: that is noted."""
    file = tmp_path / "model.gguf"
    proof = export_gguf(shipped if name == "stentor-12m" else models[name], file, dtype=dtype).proof
    assert proof is not None
    ours, theirs = greedy_text(file), llama_cpp_text(file)
    assert ours == theirs or dtype != "float32"
    record_opened(
        file=f"gguf {dtype}",
        consumer="llama.cpp (xllamacpp)",
        version=LLAMA_CPP,
        model=name,
        command="python tests/export/open_in_llama_cpp.py FILE PROMPT NUM_TOKENS",
        agrees=["token ids", "bytes of every token", "probabilities", *(["greedy text"] * (ours == theirs))],
        difference=proof.stored.max_logit_difference,
        measure="logits less their mean",
    )
    source = read_source(file, dtype="float32")
    question = make_question(source, file)
    network = stentor.load(file, dtype="float32", num_threads=1).network
    engine = network.extend(question.window, 0, all_scored=True)[question.positions]
    torch_logits = our_logits(source.config, source.tensors, question)
    difference = float(np.abs(engine - torch_logits).max())
    assert difference <= RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(torch_logits).max()))
    record_opened(
        file=f"gguf {dtype}",
        consumer="stentor, --dtype float32",
        version=stentor.__version__,
        model=name,
        command="stentor generate PROMPT --model FILE --dtype float32 --temperature 0",
        agrees=["token ids", "logits"],
        difference=difference,
        measure="logits",
    )


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_transformers_own_reader_opens_a_llama(models, tmp_path, consumer, record_opened, dtype):
    """Version 4 cuts words as Llama 2 does, whatever the file says: weights from there, ids from a folder of ours."""
    found, limit = opened_in_transformers(models["llama"], tmp_path, consumer, dtype)
    are_ids_right = consumer.version.startswith("5.")
    assert (found.pop("different_ids") == []) is are_ids_right
    difference = found.pop("logits")
    assert difference <= limit
    assert found == {"loading": {}, "weights": 0.0}
    record_opened(
        file=f"gguf {dtype}",
        consumer="transformers, gguf_file=",
        version=consumer.version,
        model="llama",
        command=consumer.command(READER, "FILE"),
        agrees=["an empty loading report", "every tensor to the bit", "logits", *(["token ids"] * are_ids_right)],
        difference=difference,
        measure="logits" if are_ids_right else "logits; token ids are WRONG: take the tokenizer from a folder",
    )


def test_transformers_own_reader_refuses_a_qwen3_unless_its_heads_are_of_128(models, tmp_path, consumer, record_opened):
    found, _ = opened_in_transformers(models["qwen3"], tmp_path, consumer, "float16")
    assert "mismatch" in found["refused"] or "loading state_dict" in found["refused"]
    record_opened(
        file="gguf float16",
        consumer="transformers, gguf_file=",
        version=consumer.version,
        model="qwen3",
        command=consumer.command(READER, "FILE"),
        agrees=[],
        difference=None,
        measure="refused: it does not read attention.key_length of a qwen3",
    )


def opened_in_transformers(model, tmp_path, consumer, dtype):
    """Return what the reader found of a file, beside a folder with the same values, and the limit of its logits."""
    file, folder = tmp_path / "model.gguf", tmp_path / "folder"
    export_gguf(model, file, dtype=dtype)
    export_huggingface(file, folder)
    source = read_source(file, dtype="float32")
    question = make_question(source, file)
    strings = mixed_strings(500, seed=5)
    logits = our_logits(source.config, source.tensors, question)
    asked = {
        "folder": str(folder),
        "strings": strings,
        "ids": source.tokenizer.encode_batch(strings),
        "window": question.window,
        "positions": question.positions,
        "logits": logits.tolist(),
    }
    return consumer.run(READER, file, question=asked), RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(logits).max()))
