"""What a card is about: the model's files and numbers, and the run that can have made it."""

from __future__ import annotations

import json
import shutil

import pytest

from stentor.artifacts import sha256_of_file, write_file
from stentor.errors import UserError
from stentor.report.card.about import About
from stentor.report.card.results import Results
from stentor.report.card.running import running
from stentor.report.card.subject import Material, open_subject


def test_a_model_folder(model_folder, tiny_config, tiny_tokenizer):
    subject = open_subject(model_folder, run_dir=None)
    assert (subject.config, subject.tokenizer.sha256, subject.run) == (tiny_config, tiny_tokenizer.sha256, None)
    assert subject.num_embedding_parameters == 384 * 32
    assert not subject.is_tokenmonster
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert [file.name for file in subject.files] == names
    for file in subject.files:
        assert file.sha256 == sha256_of_file(model_folder / file.name)
        assert file.size_bytes == (model_folder / file.name).stat().st_size
    assert subject.export["proof"]["num_strings"] == 10_000


def test_other_formats_count_and_results_do_not(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    for name in ("onnx/model.onnx", "results/bench.json", ".cache/x.json", "notes.txt", "model.gguf.part"):
        write_file(folder / name, "x")
    found = {file.name for file in open_subject(folder, run_dir=None).files}
    assert "onnx/model.onnx" in found
    assert not found & {"results/bench.json", ".cache/x.json", "notes.txt", "manifest.json", "model.gguf.part"}


def test_a_folder_of_graphs_alone(model_folder, tiny_config, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    write_file(folder / "onnx" / "model.onnx", "a graph")
    subject = open_subject(folder, run_dir=None)
    assert (subject.config, subject.origin) == (tiny_config, folder)
    assert [file.name for file in subject.named(".onnx")] == ["onnx/model.onnx"]
    assert "llama.cpp" not in running(Material(subject, About(), Results()))


def test_weights_that_are_not_whole_are_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    write_file(folder / "model.safetensors", weights[:-4])
    with pytest.raises(UserError, match="is damaged"):
        open_subject(folder, run_dir=None)


def test_a_run_folder_stands_for_its_best_checkpoint(model_folder, run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "r")
    shutil.copytree(model_folder, run / "checkpoints" / "step-0000900")
    write_file(run / "checkpoints" / "step-0000900" / "state.safetensors", "of the optimizer")
    write_file(run / "best.json", json.dumps({"step": 900}))
    subject = open_subject(run, run_dir=None)
    assert subject.run is not None
    assert subject.run.path == run
    assert [file.name.rpartition("/")[0] for file in subject.files] == ["checkpoints/step-0000900"] * 5
    assert not any("state" in file.name for file in subject.files)
    assert subject.export == {}
    assert Material(subject, About(), Results()).place == "r"
    assert Material(subject, About(), Results()).plain_folder == "r/checkpoints/step-0000900"


def test_a_run_of_another_model_is_refused(model_folder, run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "r")
    recipe = (other / "recipe.toml").read_text()
    write_file(other / "recipe.toml", recipe.replace("num_hidden_layers = 2", "num_hidden_layers = 3"))
    with pytest.raises(UserError, match=r"has model\.num_hidden_layers 3, the model in .* has 2"):
        open_subject(model_folder, run_dir=other)
    write_file(other / "recipe.toml", recipe)
    log = (other / "log.jsonl").read_text()
    start, rest = log.split("\n", 1)
    write_file(other / "log.jsonl", json.dumps({**json.loads(start), "tokenizer_sha256": "0"}) + "\n" + rest)
    with pytest.raises(UserError, match="had another tokenizer"):
        open_subject(model_folder, run_dir=other)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        open_subject(tmp_path / "none", run_dir=None)
    with pytest.raises(UserError, match="holds no model"):
        open_subject(tmp_path, run_dir=None)


def test_names(model_folder, run_folder):
    alone, made = open_subject(model_folder, run_dir=None), open_subject(model_folder, run_dir=run_folder)
    assert Material(alone, About(), Results()).name == "model"
    assert Material(made, About(), Results()).name == "tiny-test"
    named = Material(made, About(name="N", repo="org/n"), Results())
    assert (named.name, named.place) == ("N", "org/n")
    assert Material(alone, About(), Results()).place == "model"
    assert Material(alone, About(), Results()).plain_folder == "model"
    assert named.plain_folder == "org/n"
