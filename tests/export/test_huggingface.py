from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch

import stentor.export.huggingface as huggingface
from stentor.artifacts import verify_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.export.huggingface import export_huggingface
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings


@pytest.mark.slow
def test_transformers_agrees_in_a_process_of_its_own(models, tmp_path):
    proof = export_huggingface(models["llama"], tmp_path / "exported").proof
    assert proof is not None
    assert proof.stored.max_logit_difference < 1e-5
    assert proof.num_strings == 300


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("llama", "float32"), ("qwen3", "float32"), ("untied", "float32"), ("llama", "float16"), ("qwen3", "bfloat16")],
)
def test_transformers_agrees(models, tmp_path, name, dtype):
    destination = tmp_path / "exported"
    report = export_huggingface(models[name], destination, dtype=dtype)
    assert report.proof is not None
    assert report.proof.consumer.startswith("transformers 5.")
    assert report.proof.num_strings == 300
    assert report.proof.stored.max_logit_difference < 1e-5
    if dtype == "float32":
        assert report.proof.original == report.proof.stored
    manifest = verify_directory(destination, kind="model")
    # The proof in the manifest is JSON's reading of the report.
    assert manifest.details["export"] == json.loads(json.dumps(report.to_dict()))
    exported, original = read_model_folder(destination), read_model_folder(models[name])
    assert exported.config == original.config
    for key, tensor in original.tensors.items():
        assert torch.equal(exported.tensors[key], tensor.to(huggingface.DTYPES[dtype]).float())


def broken(alter):
    """Return a folder writer that stores something other than it was given."""

    def write(staging, config, tensors, tokenizer, *, dtype):
        alter_config, alter_tensors, alter_tokenizer = alter
        write_model_folder(
            staging, alter_config(config), alter_tensors(dict(tensors)), alter_tokenizer(tokenizer), dtype=dtype
        )

    return write


def same(value):
    return value


def swapped(tensors):
    first, second = "model.layers.0.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.weight"
    tensors[first], tensors[second] = tensors[second], tensors[first]
    return tensors


def other_tokenizer(_):
    return train_bpe(mixed_strings(100, seed=2), vocab_size=300)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("alter", "message"),
    [
        ((same, swapped, same), "the largest logit difference is .*, at most"),
        ((lambda config: replace(config, rope_theta=123.0), same, same), "the largest logit difference is"),
        ((same, same, other_tokenizer), r"gives other token ids for \d+ of 300 strings"),
    ],
)
def test_a_broken_export_is_refused_and_nothing_is_left(models, tmp_path, monkeypatch, alter, message):
    monkeypatch.setattr(huggingface, "write_model_folder", broken(alter))
    with pytest.raises(UserError, match=message):
        export_huggingface(models["llama"], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_a_missing_tensor_is_refused_though_transformers_invents_it(models, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save

    def write(staging, *rest, dtype):
        write_model_folder(staging, *rest, dtype=dtype)
        tensors = load_file(staging.path / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        staging.write("model.safetensors", save(tensors, metadata={"format": "pt"}))

    monkeypatch.setattr(huggingface, "write_model_folder", write)
    with pytest.raises(UserError, match=r"does not find the whole model: .*missing_keys.*mlp\.up_proj"):
        export_huggingface(models["llama"], tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_any_work(models, tmp_path, monkeypatch):
    (tmp_path / "exported").mkdir()
    monkeypatch.setattr(huggingface, "read_source", lambda *_, **__: pytest.fail("the model was read"))
    with pytest.raises(UserError, match="already exists"):
        export_huggingface(models["llama"], tmp_path / "exported")


def test_without_transformers_only_an_unverified_export_is_kept(models, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find_spec(name))
    with pytest.raises(MissingDependencyError, match="transformers"):
        export_huggingface(models["llama"], tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    report = export_huggingface(models["llama"], tmp_path / "exported", unverified=True)
    assert report.to_dict()["verified"] is False
    assert read_model_folder(tmp_path / "exported").config == read_model_folder(models["llama"]).config


def test_bad_arguments_are_refused(models, tmp_path):
    with pytest.raises(UserError, match="huggingface files have no dtype 'q8_0'"):
        export_huggingface(models["llama"], tmp_path / "exported", dtype="q8_0")
    with pytest.raises(UserError, match="no model"):
        export_huggingface(tmp_path / "absent", tmp_path / "exported")


def test_a_model_without_a_tokenizer_is_refused(models, tmp_path):
    from stentor.artifacts import staged_directory

    folder = read_model_folder(models["llama"])
    with staged_directory(tmp_path / "bare", kind="model") as staging:
        write_model_folder(staging, folder.config, folder.tensors, None)
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        export_huggingface(tmp_path / "bare", tmp_path / "exported")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_tokenmonster_folder_is_proven_and_tells_how_to_open_it(monster_models, tmp_path, name):
    destination = tmp_path / "exported"
    report = export_huggingface(monster_models[name], destination)
    assert report.proof is not None
    assert report.proof.num_strings == 300
    assert report.proof.stored.max_logit_difference < 1e-5
    assert report.mapped_tokenizer is None
    assert "README.md" in verify_directory(destination, kind="model").files
    readme = (destination / "README.md").read_text()
    assert "pip install 'stentor[hf]'" in readme
    assert "import stentor.hf" in readme
    assert 'from_pretrained("exported")' in readme
    assert not (destination / "tokenizer.json").exists()
    exported = read_model_folder(destination).require_tokenizer()
    assert exported.sha256 == read_model_folder(monster_models[name]).require_tokenizer().sha256


@pytest.mark.usefixtures("in_process")
def test_a_byte_level_folder_needs_no_readme(models, tmp_path):
    export_huggingface(models["llama"], tmp_path / "exported")
    assert not (tmp_path / "exported" / "README.md").exists()


@pytest.mark.slow
def test_the_readmes_program_runs(monster_models, tmp_path):
    import os
    import subprocess
    import sys

    export_huggingface(monster_models["llama"], tmp_path / "exported")
    program = (tmp_path / "exported" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("The history of")
