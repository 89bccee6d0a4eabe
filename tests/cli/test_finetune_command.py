"""`stentor finetune` from the command line: what it prints, what it leaves, what it refuses."""

from __future__ import annotations

import inspect
import json
import sys

import pytest

from stentor.cli import finetune as command
from stentor.export import huggingface, source
from stentor.finetune.settings import FinetuneSettings

QUICK = ["--epochs", 0.05, "--rank", 2, "--validation", "take:5", "--device", "cpu"]


@pytest.fixture(autouse=True)
def quick_proof(monkeypatch):
    """Prove with few strings, in this process."""
    from stentor.export import in_transformers

    monkeypatch.setattr(source, "NUM_STRINGS", 100)
    monkeypatch.setattr(huggingface, "ask", lambda program, question, **_: in_transformers.answer(question))


def test_a_table_for_people(cli, world, tmp_path):
    outcome = cli("finetune", world.run, world.text, tmp_path / "out", "--keep", world.text, *QUICK)
    assert outcome.code == 0, outcome.err
    head, held_out, kept, adapter, merged = outcome.out.splitlines()
    assert head.split() == ["bits", "per", "byte", "before", "after", "change"]
    assert held_out.startswith("held out of the text  ")
    assert kept.startswith("the text to keep  ")
    before, after, change = map(float, kept.split()[-3:])
    assert after - before == pytest.approx(change, abs=2e-4)
    assert adapter.startswith(str(tmp_path / "out" / "adapter"))
    assert merged.startswith(str(tmp_path / "out" / "merged"))
    assert "trained " in outcome.err
    assert "values for" in outcome.err


def test_one_object_as_json_and_the_merged_model_goes_on(cli, world, tmp_path):
    value = cli("finetune", world.run, world.text, tmp_path / "out", *QUICK, "--json").value
    assert value["kept"] is None
    assert value["settings"]["alpha"] == 4
    assert set(value["held_out"]) == {"before", "after"}
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"].startswith(str(world.run / "checkpoints"))
    assert cli("generate", "a cat", "--model", tmp_path / "out" / "merged", "--max-new-tokens", 5).code == 0


def test_defaults_are_those_of_the_settings():
    parameters, settings = inspect.signature(command.finetune).parameters, FinetuneSettings()
    shared = set(parameters) & set(FinetuneSettings.__slots__)
    assert shared == set(FinetuneSettings.__slots__)
    assert all(parameters[name].default == getattr(settings, name) for name in shared)


def test_an_output_that_exists_is_replaced_only_by_force(cli, world, tmp_path):
    arguments = ["finetune", world.run, world.text, tmp_path / "out", *QUICK]
    assert cli(*arguments).code == 0
    cli(*arguments).fails(3, "out", "fix: ")
    assert cli(*arguments, "--force").code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--rank", 0], 3, "--rank is 0"),
        (["--rank", 999], 3, "--rank is 999, but the model's smallest matrix has"),
        (["--lr", "nan"], 3, "--lr is nan"),
        (["--lr", "1e30"], 3, "the adapter has left the range of numbers"),
        (["--quantize", "2bit"], 3, "--quantize is '2bit'"),
        (["--device", "tpu"], 3, "there is no device 'tpu'"),
        (["--device", "mps"], 4, "torch finds no device mps here"),
        (["--validation", "take:9999"], 3, "no training document is left"),
        (["--keep", "nowhere.txt"], 3, "no such file or folder: nowhere.txt"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(cli, world, tmp_path, options, code, said):
    cli("finetune", world.run, world.text, tmp_path / "out", *QUICK, *options).fails(code, said, "fix: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["torch", "transformers", "peft"])
def test_without_its_packages_the_extra_is_named(cli, world, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("stentor.finetune.run", "stentor.finetune.adapter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    cli("finetune", world.run, world.text, tmp_path / "out", *QUICK).fails(
        4, f"fine-tuning needs the package {package!r}", "stentor[finetune]"
    )
    assert list(tmp_path.iterdir()) == []
