"""What the name of a model stands for, and the one sentence where it stands for none."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from stentor.artifacts import write_file
from stentor.errors import MissingDependencyError, UserError
from stentor.model.folder import read_model_folder
from stentor.model.locate import find_onnx, is_gguf, resolve_model, shipped_models, weights_file
from stentor.model.weight_index import INDEX_NAME


def test_a_run_stands_for_its_best_checkpoint(tmp_path, model_dir):
    shutil.copytree(model_dir, tmp_path / "run" / "checkpoints" / "step-0000012")
    write_file(tmp_path / "run" / "best.json", '{"step": 12}')
    assert resolve_model(tmp_path / "run") == tmp_path / "run" / "checkpoints" / "step-0000012"


@pytest.mark.parametrize(
    "step", ['"../../elsewhere"', "3.5", "-1", "true", "[" * 100_000, "1e999", "NaN", '1, "step": 2']
)
def test_a_run_that_names_no_step_as_its_best_is_refused(tmp_path, step):
    write_file(tmp_path / "best.json", f'{{"step": {step}}}')
    with pytest.raises(UserError, match=r"best\.json is damaged"):
        resolve_model(tmp_path)


def test_weights_in_several_files_stand_for_their_index(tmp_path):
    write_file(tmp_path / INDEX_NAME, "{}")
    assert weights_file(tmp_path) == tmp_path / INDEX_NAME
    write_file(tmp_path / "model.safetensors", b"")
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"


def test_what_is_no_model_is_said_to_be_none(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        resolve_model(tmp_path)
    with pytest.raises(UserError, match="there is no model"):
        resolve_model(tmp_path / "nowhere" / "at" / "all")


def test_a_gguf_file_stands_for_itself_and_model_gguf_for_its_folder(tmp_path):
    write_file(tmp_path / "some.gguf", b"GGUF")
    assert resolve_model(tmp_path / "some.gguf") == tmp_path / "some.gguf"
    with pytest.raises(UserError, match="holds no model"):
        resolve_model(tmp_path)
    write_file(tmp_path / "model.gguf", b"GGUF")
    assert resolve_model(str(tmp_path)) == tmp_path / "model.gguf"
    assert weights_file(tmp_path / "model.gguf") == tmp_path / "model.gguf"
    with pytest.raises(UserError, match=r"there is no model there/absent\.gguf"):
        resolve_model("there/absent.gguf")
    write_file(tmp_path / "config.json", b"{}")
    assert resolve_model(tmp_path) == tmp_path
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"


def test_a_folder_named_like_a_gguf_file_is_a_folder(tmp_path, model_dir):
    shutil.copytree(model_dir, tmp_path / "odd.gguf")
    assert resolve_model(tmp_path / "odd.gguf") == tmp_path / "odd.gguf"
    assert not is_gguf(tmp_path / "odd.gguf")


def test_what_ships_is_named_but_a_folder_of_that_name_goes_first(tmp_path, model_dir, monkeypatch):
    assert shipped_models() == ["stentor-12m"]
    assert resolve_model("stentor-12m").parts[-3:] == ("models", "stentor-12m", "model.gguf")
    with pytest.raises(UserError, match="there is no model nowhere") as raised:
        resolve_model("nowhere")
    assert "stentor-12m" in str(raised.value)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_dir, "stentor-12m")
    assert resolve_model("stentor-12m") == Path("stentor-12m")


def test_a_hub_id_is_fetched(monkeypatch, model_dir):
    asked = []

    def snapshot_download(hub_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((hub_id, allow_patterns))
        return str(model_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert read_model_folder("some-lab/some-model").path == model_dir
    assert asked == [("some-lab/some-model", ["*.json", "*.safetensors", "*.vocab", "README.md"])]


def test_a_hub_id_without_a_network_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="neither a folder here nor to be had from the Hugging Face Hub") as caught:
        resolve_model("some-lab/some-model")
    assert "check the name and the network" in caught.value.fix


def test_a_name_that_no_model_of_the_hub_can_have_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the model some--lab/model is neither a folder here.*HFValidationError"):
        resolve_model("some--lab/model")


def test_a_hub_id_without_the_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match="huggingface_hub") as caught:
        resolve_model("some-lab/some-model")
    assert "stentor[hf]" in caught.value.fix


def test_onnx_models_are_files_and_folders_that_have_nothing_else(tmp_path):
    assert find_onnx(tmp_path) is None
    assert find_onnx("stentor-12m") is None
    write_file(tmp_path / "export" / "onnx" / "model.onnx", b"graph")
    write_file(tmp_path / "export" / "onnx" / "model_quantized.onnx", b"graph")
    graph = tmp_path / "export" / "onnx" / "model.onnx"
    assert find_onnx(tmp_path / "export") is None
    assert find_onnx(graph.parent) == graph
    assert find_onnx(str(graph)) == graph
    assert find_onnx(graph.with_name("model_quantized.onnx")) == graph.with_name("model_quantized.onnx")
    write_file(tmp_path / "export" / "config.json", b"{}")
    assert find_onnx(tmp_path / "export") == graph
    write_file(tmp_path / "export" / "model.safetensors", b"")
    assert find_onnx(tmp_path / "export") is None  # whole weights are for our own engine
    assert find_onnx(graph.parent) == graph


def test_an_onnx_file_that_is_not_there_is_never_looked_for_on_the_hub():
    with pytest.raises(UserError, match=r"there is no file org/name\.onnx"):
        find_onnx("org/name.onnx")
