"""The reference's layout in stock transformers of two major versions: the documented bug, and its repair."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file

from stentor.export.huggingface import RELATIVE_LOGIT_LIMIT, export_huggingface
from stentor.export.reference import export_reference
from stentor.export.source import make_question, our_logits, read_source

PROGRAM = "open_reference.py"

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@pytest.mark.parametrize("family", ["byte-level", "tokenmonster"])
def test_stock_transformers_misreads_the_layout_and_our_export_repairs_it(
    models, monster_models, tmp_path, consumer, record_opened, family
):
    original = {"byte-level": models, "tokenmonster": monster_models}[family]["llama"]
    export_reference(original, tmp_path / "reference")
    masters = [name for name in load_file(tmp_path / "reference" / "model.safetensors") if "_master" in name]
    projections = sorted(name.replace("_master", "") for name in masters)
    assert len(projections) == 2 * 7
    misread = consumer.run(PROGRAM, tmp_path / "reference", "--by-the-readme")
    assert misread["wrong"] == projections
    assert misread["loading"]["missing_keys"] == projections
    assert misread["wrong_by_the_readme"] == []
    export_huggingface(tmp_path / "reference", tmp_path / "repaired")
    assert consumer.run(PROGRAM, tmp_path / "repaired") == {"loading": {}, "wrong": []}
    for path in original.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "repaired" / path.name).read_bytes(), path.name
    record_opened(
        file="reference, repaired",
        consumer="transformers",
        version=consumer.version,
        model=f"llama, {family}",
        command=consumer.command(PROGRAM, "FOLDER"),
        agrees=["an empty loading report", "every tensor to the bit", "every file of the folder"],
        difference=0.0,
        measure="weights",
    )


@pytest.mark.parametrize("family", ["byte-level", "tokenmonster"])
def test_load_stentor2_opens_it_in_either_version(models, monster_models, tmp_path, consumer, record_opened, family):
    """The loader itself, where users have it: beside that version of transformers."""
    export_reference({"byte-level": models, "tokenmonster": monster_models}[family]["llama"], tmp_path / "reference")
    source = read_source(tmp_path / "reference", dtype="float32")
    question = make_question(source, tmp_path / "reference")
    logits = our_logits(source.config, source.tensors, question)
    found = consumer.run(
        "open_stentor2.py",
        tmp_path / "reference",
        question={
            "strings": question.strings,
            "ids": source.tokenizer.encode_batch(question.strings),
            "window": question.window,
            "positions": question.positions,
            "logits": logits.tolist(),
        },
        with_stentor=True,
    )
    difference = found.pop("max_logit_difference")
    assert difference <= RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(logits).max()))
    assert found == {
        "class": "LlamaForCausalLM",
        "wrong": [],
        "different_ids": [],
        "warnings": [],
        "is_one_tensor": True,
        "loading_again": {},
        "same_tensors_again": True,
    }
    record_opened(
        file="reference, by load_stentor2",
        consumer="transformers",
        version=consumer.version,
        model=f"llama, {family}",
        command=f"PYTHONPATH=src {consumer.command('open_stentor2.py', 'FOLDER')}",
        agrees=["every tensor to the bit", "token ids", "logits", "saved and reopened to the bit"],
        difference=difference,
        measure="logits",
    )
