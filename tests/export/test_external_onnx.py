"""Our graphs in onnxruntime alone, in an environment that has no Stentor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import stentor
from stentor.export.onnx import ALWAYS_ALLOWED, RELATIVE_LOGIT_LIMIT, export_onnx
from stentor.export.source import make_question, our_logits, read_source
from stentor.tokenizer.probes import mixed_strings

from .conftest import NUM_GENERATED, PROMPT

PROGRAM = "open_in_onnxruntime.py"
QUANTIZED_LIMIT = 1e-4
"""Dynamic INT8 rounds alike in every session that reads as many tokens at once, with however many threads."""

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@dataclass
class Expected:
    """What a graph of a folder must give: logits [positions, vocabulary], how closely, and the greedy text."""

    logits: np.ndarray
    limit: float
    text: str


@pytest.mark.parametrize("name", ["llama", "qwen3", "untied", "stentor-12m"])
def test_onnxruntime_alone_opens_both_graphs(
    models, shipped, tmp_path, onnxruntime_alone, greedy_text, record_opened, name
):
    original, folder = shipped if name == "stentor-12m" else models[name], tmp_path / "exported"
    export_onnx(original, folder)
    source = read_source(original, dtype="float32")
    question = make_question(source, folder)
    strings = mixed_strings(2000, seed=5)
    logits_PV = our_logits(source.config, source.tensors, question)
    expected = {
        "model.onnx": Expected(
            logits_PV,
            max(ALWAYS_ALLOWED, RELATIVE_LOGIT_LIMIT * float(np.abs(logits_PV).max())),
            greedy_text(original),
        ),
        "model_quantized.onnx": expected_of_int8(folder / "onnx" / "model_quantized.onnx", question),
    }
    found = onnxruntime_alone.run(
        PROGRAM,
        folder,
        question={
            "strings": strings,
            "ids": source.tokenizer.encode_batch(strings),
            "window": question.window,
            "positions": question.positions,
            "logits": {file: graph.logits.tolist() for file, graph in expected.items()},
            "prompt": PROMPT,
            "num_generated": NUM_GENERATED,
        },
    )
    assert found["different_ids"] == []
    assert found["generated"] == {file: graph.text for file, graph in expected.items()}
    for file, dtype in (("model.onnx", "float32"), ("model_quantized.onnx", "int8")):
        difference = found["max_logit_difference"][file]
        assert difference <= expected[file].limit
        record_opened(
            file=f"onnx {dtype}",
            consumer="onnxruntime",
            version=onnxruntime_alone.version,
            model=name,
            command=onnxruntime_alone.command(PROGRAM, "FOLDER"),
            agrees=["token ids", "logits", "greedy text"],
            difference=difference,
            measure="logits" if dtype == "float32" else "logits, from Stentor's own session on the graph",
        )


def expected_of_int8(path, question) -> Expected:
    """Return what our own session on a graph gives: no engine of ours rounds activations as it does."""
    opened = stentor.load(path, num_threads=1)
    logits_TV = opened.network.fresh().extend(question.window, 0, all_scored=True)
    text = opened.generate(PROMPT, max_new_tokens=NUM_GENERATED, temperature=0, repetition_penalty=1)
    return Expected(logits_TV[question.positions], QUANTIZED_LIMIT, text)
