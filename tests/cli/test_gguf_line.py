"""A .gguf file at the command line: measured, continued and exported like the folder it came from."""

from __future__ import annotations

import pytest
import torch

from stentor.artifacts import write_file
from stentor.export import source
from stentor.export.gguf import export_gguf
from stentor.model.folder import read_model_folder


@pytest.fixture(scope="module")
def model(world, tmp_path_factory):
    """Return a folder that holds nothing but the run's best checkpoint as float32 GGUF."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "NUM_STRINGS", 50)
        path = tmp_path_factory.mktemp("gguf") / "model.gguf"
        export_gguf(world.run, path, dtype="float32")
    return path


@pytest.mark.parametrize("named", ["file", "folder"])
def test_it_is_measured_as_its_run_is(cli, world, model, named):
    of_run = cli("evaluate", world.run, world.text, "--no-baselines", "--json").value
    of_file = cli("evaluate", model if named == "file" else model.parent, world.text, "--no-baselines", "--json").value
    assert of_file == {**of_run, "model": str(model)}


def test_it_continues_a_prompt_as_its_run_does(cli, world, model):
    said = [cli("generate", "A cat", "--model", name, "--max-new-tokens", 9).out for name in (world.run, model)]
    assert said[0] == said[1]
    assert said[0].strip()


def test_it_goes_back_to_the_folder_it_came_from(cli, world, model, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 50)
    assert cli("export", model, tmp_path / "back", "--to", "reference").code == 0
    back, original = read_model_folder(tmp_path / "back"), read_model_folder(world.run)
    assert back.config == original.config
    assert back.require_tokenizer().sha256 == original.require_tokenizer().sha256
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in original.tensors.items())


def test_q8_0_of_q8_0_is_the_same_file(cli, world, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 50)
    first, second = tmp_path / "a" / "m.gguf", tmp_path / "b" / "m.gguf"
    for start, destination in ((world.run, first), (first, second)):
        assert cli("export", start, destination, "--to", "gguf", "--dtype", "q8_0").code == 0
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "command", [["evaluate", "M", "TEXT"], ["generate", "x", "--model", "M"], ["export", "M", "O"]]
)
@pytest.mark.parametrize(
    ("keep", "said"), [(0, "is damaged"), (3, "is damaged"), (500, "is damaged"), (-40, "is damaged"), (None, "GGUF")]
)
def test_a_file_that_is_none_is_one_sentence(cli, world, model, tmp_path, command, keep, said):
    damaged = tmp_path / "damaged.gguf"
    write_file(damaged, b"no such thing" * 9 if keep is None else model.read_bytes()[:keep])
    names = {"M": damaged, "TEXT": world.text, "O": tmp_path / "out"}
    arguments = [names.get(word, word) for word in command]
    cli(*arguments, *(["--to", "huggingface"] if "O" in command else [])).fails(3, str(damaged), said)
    assert not (tmp_path / "out").exists()


def test_one_that_is_not_there_is_not_looked_for_on_the_hub(cli, world):
    cli("evaluate", "models/absent.gguf", world.text).fails(3, "there is no model models/absent.gguf")
