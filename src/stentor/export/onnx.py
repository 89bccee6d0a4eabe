"""A folder of ONNX graphs that onnxruntime and transformers.js open, proven in onnxruntime before it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stentor.artifacts import refuse_existing, staged_directory
from stentor.errors import missing_extra
from stentor.export.consumer import ask
from stentor.export.in_onnxruntime import QUANTIZED_NAME
from stentor.export.parity import (
    Agreement,
    ExportReport,
    Proof,
    Variant,
    compare_logits,
    require_equal_ids,
    require_within,
)
from stentor.export.source import Source, make_question, our_logits, read_source
from stentor.model.folder import write_settings
from stentor.model.locate import ONNX_FOLDER, ONNX_NAME
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

try:
    from stentor.export.onnx_graph import build_onnx
    from stentor.export.onnx_quantize import quantize_onnx_int8
except ModuleNotFoundError as error:
    if error.name not in ("onnx", "onnxruntime"):
        raise
    raise missing_extra(error.name, "export", needed_for="writing an ONNX graph") from None

RELATIVE_LOGIT_LIMIT, ALWAYS_ALLOWED = 1e-5, 1e-4
NO_BROWSER = (
    "NOT for transformers.js: it has no TokenMonster, so it cannot turn text into this model's ids; Stentor can, and "
    "onnxruntime takes ids"
)
HOW_TO_OPEN = """# {name}

The graphs in `onnx/` take token ids and give logits, in any onnxruntime. The tokenizer is a TokenMonster vocabulary,
which transformers.js does not have: it cannot open this folder. Stentor runs it as it is:

    pip install 'stentor[export]'
    stentor generate "The history of" --model {name}
"""


def export_onnx(model: str | Path, destination: Path, *, replace: bool = False) -> ExportReport:
    """Write a model as a folder that transformers.js opens: graphs in float32 and INT8, sizes and tokenizer.

    The folder is kept only if onnxruntime gives our logits to 1e-4 (1e-5 of the largest, where logits exceed 10) for a
    prompt, a prompt in two pieces, single tokens with a cache and a batch with padding on the left, and if the
    tokenizer's file gives our ids for 10,000 mixed strings. What INT8 costs is measured and reported.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        destination: the folder to make.
        replace: an existing destination is replaced; otherwise it is refused.

    Raises:
        UserError: the model cannot be read, the destination exists, or onnxruntime disagrees.
    """
    refuse_existing(destination, replace=replace, kind="model")
    source = read_source(model, dtype="float32")
    is_monster = isinstance(source.tokenizer, TokenMonsterTokenizer)
    with staged_directory(destination, kind="model", replace=replace) as staging:
        write_settings(staging, source.config, source.tokenizer)
        arrays = {name: tensor.numpy() for name, tensor in source.tensors.items()}
        staging.write(f"{ONNX_FOLDER}/{ONNX_NAME}", build_onnx(source.config, arrays).SerializeToString())
        plain, quantized = (staging.path / ONNX_FOLDER / name for name in (ONNX_NAME, QUANTIZED_NAME))
        quantize_onnx_int8(plain, quantized)
        if is_monster:
            staging.write("README.md", HOW_TO_OPEN.format(name=destination.name))
        proof, cost = _prove(source, staging.path)
        report = ExportReport(
            path=str(destination),
            format="onnx",
            dtype="float32",
            size_bytes=plain.stat().st_size,
            proof=proof,
            variants=(
                Variant(
                    path=str(destination / ONNX_FOLDER / QUANTIZED_NAME),
                    dtype="dynamic INT8",
                    size_bytes=quantized.stat().st_size,
                    original=cost,
                ),
            ),
            remark=NO_BROWSER if is_monster else "",
        )
        staging.details["export"] = report.to_dict()
    return report


def _prove(source: Source, folder: Path) -> tuple[Proof, Agreement]:
    """Return the proof of the graph in float32, and what the one in INT8 costs."""
    question = make_question(source, folder)
    answer = ask("stentor.export.in_onnxruntime", question, consumer="onnxruntime")
    consumer = f"onnxruntime {answer.facts['version']}"
    ours = source.tokenizer.encode_batch(question.strings)
    require_equal_ids(question.strings, ours, answer.facts["ids"], consumer=f"the tokenizer beside {consumer}")
    ours_PV = our_logits(source.config, source.tensors, question)
    *ways, in_int8 = zip(answer.facts["ways"], np.split(answer.logits_PV, len(answer.facts["ways"])), strict=True)
    limit = max(ALWAYS_ALLOWED, RELATIVE_LOGIT_LIMIT * float(np.abs(ours_PV).max()))
    for way, theirs_PV in ways:
        difference = compare_logits(ours_PV, theirs_PV).max_logit_difference
        require_within(f"the largest logit difference of {way}", difference, limit, consumer=consumer)
    agreement = compare_logits(np.tile(ours_PV, (len(ways), 1)), np.concatenate([theirs for _, theirs in ways]))
    proof = Proof(
        consumer=consumer,
        num_strings=len(question.strings),
        num_tokens=0,
        num_positions=len(question.positions) * len(ways),
        stored=agreement,
        original=agreement,
    )
    return proof, compare_logits(ours_PV, in_int8[1])
