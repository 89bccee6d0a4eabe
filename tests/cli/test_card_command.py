"""stentor card: a run or a model folder gets its README.md, from what the other commands print."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from huggingface_hub import ModelCard

from stentor.artifacts import write_file


@pytest.fixture
def run(world, tmp_path):
    return shutil.copytree(world.run, tmp_path / "run")


def test_a_run_gets_a_card(cli, run):
    outcome = cli("card", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == str(run / "README.md")
    assert "  evaluate.json: stentor evaluate MODEL TEXT" in outcome.out
    card = ModelCard.load(run / "README.md")
    data: Any = card.data
    assert data.model_name == "tiny-test"
    assert (run / "report" / "curves.png").is_file()
    cli("card", run).fails(3, f"{run / 'README.md'} already exists", "--force")
    assert cli("card", run, "--force").code == 0


@pytest.mark.slow
def test_what_commands_print_fills_it(cli, world, run, tmp_path):
    results = tmp_path / "results"
    text = cli("evaluate", run, world.text, "--json").out
    write_file(results / "evaluate-prose.json", text)
    sample = cli("generate", "the old", "--model", run, "--max-new-tokens", 7, "--seed", 5, "--json").out
    write_file(results / "generate.json", sample)
    write_file(about := tmp_path / "card.toml", 'license = "mit"\nlanguages = ["en"]\n')
    value = cli("card", run, "--results", results, "--about", about, "--json").value
    assert value["left_out"] == ["Comparison", "Smaller forms", "Speed"]
    assert "evaluate" not in value["missing"]
    assert value["missing"]["bench"] == "stentor bench MODEL --json"
    card = ModelCard.load(value["path"])
    bits = json.loads(text)["bits_per_byte"]
    assert f"| prose | **{bits:.4f}** |" in card.text
    data: Any = card.data
    assert data.eval_results[0].metric_value == pytest.approx(bits, rel=1e-5)
    assert json.loads(sample)["completions"][0]["text"].strip() in card.text
    assert "max_new_tokens 7" in card.text.replace("\\", "")
    assert "seed 5" in card.text


@pytest.mark.slow
def test_an_exported_folder_names_its_run(cli, world, tmp_path):
    cli("export", world.run, tmp_path / "model", "--to", "huggingface")
    outcome = cli("card", tmp_path / "model", "--run", world.run)
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Before this folder was kept it was opened in transformers" in text
    assert "### Training dynamics" in text
    assert 'from_pretrained("model")' in text


def test_generate_says_what_it_was_asked(cli, world):
    value = cli("generate", "the old", "--model", world.run, "--max-new-tokens", 3, "--top-k", 9, "--json").value
    assert value["prompt"] == "the old"
    assert value["settings"]["top_k"] == 9
    assert value["settings"]["max_new_tokens"] == 3
    assert value["settings"]["dtype"] is None  # what the device has by default
    assert "draft" not in value["settings"]


def test_what_cannot_be_read_is_refused(cli, run, tmp_path):
    cli("card", tmp_path).fails(3, "holds no model")
    cli("card", tmp_path / "none").fails(3, "is no folder")
    cli("card", run, "--results", tmp_path / "none").fails(3, "no folder of results")
    cli("card", run, "--about", tmp_path / "none").fails(3, "cannot be read")
    cli("card", run, "--run", tmp_path).fails(3, "is no run")
    assert not (run / "README.md").exists()
