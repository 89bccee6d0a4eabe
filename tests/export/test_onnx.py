from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from stentor.artifacts import verify_directory
from stentor.errors import UserError
from stentor.export import onnx as onnx_export
from stentor.export.onnx import export_onnx
from stentor.export.onnx_graph import build_onnx
from stentor.model.folder import read_model_folder
from stentor.runtime.engine import load
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings

FILES = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "onnx/model.onnx",
    "onnx/model_quantized.onnx",
}


@pytest.fixture
def in_process(monkeypatch):
    """Ask onnxruntime in this process: the same code as the child's, without its start."""

    def ask(program, question, **_):
        from stentor.export import in_onnxruntime

        assert program == in_onnxruntime.__name__
        return in_onnxruntime.answer(question)

    monkeypatch.setattr(onnx_export, "ask", ask)


def test_onnxruntime_agrees_in_a_process_of_its_own(models, tmp_path):
    report = export_onnx(models["qwen3"], tmp_path / "exported")
    assert report.proof is not None
    assert report.proof.consumer.startswith("onnxruntime 1.")
    assert report.proof.num_strings == 300
    assert report.proof.stored.max_logit_difference < 1e-4


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_a_folder_as_transformers_js_wants_it(models, tmp_path, name):
    destination = tmp_path / "exported"
    report = export_onnx(models[name], destination)
    assert report.proof is not None
    assert report.proof.num_positions == 4 * 64
    assert report.proof.stored == report.proof.original
    manifest = verify_directory(destination, kind="model")
    assert set(manifest.files) == FILES
    assert manifest.details["export"] == json.loads(json.dumps(report.to_dict()))
    assert report.size_bytes == (destination / "onnx/model.onnx").stat().st_size
    (variant,) = report.variants
    assert variant.size_bytes == (destination / "onnx/model_quantized.onnx").stat().st_size
    assert variant.size_bytes < 0.5 * report.size_bytes
    assert 0 < variant.original.mean_kl_nats < 0.1
    assert report.remark == ""
    original = read_model_folder(models[name])
    assert json.loads((destination / "config.json").read_bytes())["vocab_size"] == original.config.vocab_size


@pytest.mark.usefixtures("in_process")
def test_it_writes_as_the_model_does(models, tmp_path):
    export_onnx(models["llama"], tmp_path / "exported")
    ours, theirs = load(models["llama"], dtype="float32", num_threads=1), load(tmp_path / "exported", num_threads=1)
    options = {"temperature": 0, "max_new_tokens": 40, "ignore_eos": True}
    assert theirs.generate("Rivers carry", **options) == ours.generate("Rivers carry", **options)
    np.testing.assert_allclose(theirs.score("the sea").log_probs, ours.score("the sea").log_probs, atol=1e-4)


def altered(change):
    """Return a builder of graphs whose weights were changed."""

    def build(config, arrays):
        return build_onnx(*change(config, dict(arrays)))

    return build


def swapped(config, arrays):
    first, second = "model.layers.0.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.weight"
    arrays[first], arrays[second] = arrays[second], arrays[first]
    return config, arrays


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("change", [swapped, lambda config, arrays: (replace(config, rope_theta=99.0), arrays)])
def test_a_wrong_graph_is_refused_and_nothing_is_left(models, tmp_path, monkeypatch, change):
    monkeypatch.setattr(onnx_export, "build_onnx", altered(change))
    with pytest.raises(UserError, match=r"the largest logit difference of a prompt is .*, at most"):
        export_onnx(models["llama"], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_a_graph_that_looks_at_padding_is_refused(models, tmp_path, monkeypatch):
    """Only the batch shows this fault: every way that is tried counts."""

    def careless(config, arrays):
        model = build_onnx(config, arrays)
        for node in model.graph.node:
            if node.op_type == "Cast" and node.input[0] == "attention_mask":
                node.input[0] = "all_seen"
        model.graph.node.insert(0, helper.make_node("Equal", ["attention_mask", "attention_mask"], ["all_seen"]))
        return model

    monkeypatch.setattr(onnx_export, "build_onnx", careless)
    with pytest.raises(UserError, match="the largest logit difference of a batch with padding is"):
        export_onnx(models["llama"], tmp_path / "exported")


@pytest.mark.usefixtures("in_process")
def test_another_tokenizer_is_refused(models, tmp_path, monkeypatch):
    write = onnx_export.write_settings

    def other(staging, config, tokenizer):
        write(staging, config, train_bpe(mixed_strings(100, seed=2), vocab_size=300))

    monkeypatch.setattr(onnx_export, "write_settings", other)
    with pytest.raises(UserError, match=r"gives other token ids for \d+ of 300 strings"):
        export_onnx(models["llama"], tmp_path / "exported")


def test_an_existing_output_is_refused_before_any_work(models, tmp_path, monkeypatch):
    (tmp_path / "exported").mkdir()
    monkeypatch.setattr(onnx_export, "read_source", lambda *_, **__: pytest.fail("the model was read"))
    with pytest.raises(UserError, match="already exists"):
        export_onnx(models["llama"], tmp_path / "exported")


@pytest.mark.usefixtures("in_process")
def test_an_output_of_ours_is_replaced_when_asked(models, tmp_path):
    export_onnx(models["llama"], tmp_path / "exported")
    export_onnx(models["qwen3"], tmp_path / "exported", replace=True)
    assert json.loads((tmp_path / "exported" / "config.json").read_bytes())["model_type"] == "qwen3"


@pytest.mark.usefixtures("in_process")
def test_a_tokenmonster_folder_says_that_browsers_cannot_open_it(monster_models, tmp_path):
    destination = tmp_path / "exported"
    report = export_onnx(monster_models["llama"], destination)
    assert report.remark.startswith("NOT for transformers.js")
    readme = (destination / "README.md").read_text()
    assert "transformers.js does not have" in readme
    assert "--model exported" in readme
    assert not (destination / "tokenizer.json").exists()
    ours, theirs = load(monster_models["llama"], dtype="float32", num_threads=1), load(destination, num_threads=1)
    options = {"temperature": 0, "max_new_tokens": 20, "ignore_eos": True}
    assert theirs.generate("the sea", **options) == ours.generate("the sea", **options)


@pytest.mark.usefixtures("in_process")
def test_an_onnx_folder_is_no_source_of_weights(models, tmp_path):
    export_onnx(models["llama"], tmp_path / "exported")
    for name in ("exported", "exported/onnx", "exported/onnx/model.onnx"):
        with pytest.raises(UserError, match="a graph for onnxruntime") as caught:
            export_onnx(tmp_path / name, tmp_path / "again")
        assert "the model that it was exported from" in str(caught.value)


@pytest.mark.slow
def test_all_strings_of_a_real_proof(models, tmp_path, monkeypatch):
    from stentor.export import source

    monkeypatch.setattr(source, "NUM_STRINGS", 10_000)
    proof = export_onnx(models["untied"], tmp_path / "exported").proof
    assert proof is not None
    assert proof.num_strings == 10_000
