"""stentor compare: runs side by side, drawn where asked for, and what is no run."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest

from stentor.config import Recipe
from stentor.prepare import prepare
from stentor.run import unwatched
from stentor.train.loop import train


@pytest.fixture(scope="module")
def faster(world, tmp_path_factory):
    """Return a run like the world's with another rate."""
    recipe = Recipe.load(world.recipe, overrides=["train.lr=0.01", "train.tokens=1280"])
    return train(
        recipe, prepare(recipe, world.data, watch=unwatched).shards, tmp_path_factory.mktemp("runs") / "faster"
    )


def test_runs_are_laid_side_by_side(cli, world, faster):
    outcome = cli("compare", world.run, faster)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["run", "faster"]
    assert next(line for line in lines if line.startswith("parameters")).split()[-2:] == ["32,928", "32,928"]
    assert next(line for line in lines if "train.lr" in line).split() == ["train.lr", "0.005", "0.01"]
    assert next(line for line in lines if "train.tokens" in line).split() == ["train.tokens", "3200", "1280"]
    assert "note:" not in outcome.out


def test_json_has_numbers_and_settings(cli, world, faster):
    value = cli("compare", world.run, faster, "--json").value
    assert [run["run"] for run in value["runs"]] == [str(world.run), str(faster)]
    assert [run["tokens_seen"] for run in value["runs"]] == [3200, 1280]
    assert all(run["best_bits_per_byte"] > 0 and run["tokens_per_second"] > 0 for run in value["runs"])
    assert value["settings"] == {"train.tokens": [3200, 1280], "train.lr": [0.005, 0.01]}
    assert value["notes"] == []


def test_other_held_out_text_is_noted(cli, new_world, world):
    recipe = Recipe.load(world.recipe)
    other = dataclasses.replace(recipe, text=dataclasses.replace(recipe.text, validation="take:7"))
    train(other, prepare(other, new_world.data, watch=unwatched).shards, new_world.run)
    outcome = cli("compare", world.run, new_world.run)
    assert "was measured on other held-out text than" in outcome.out.splitlines()[-1]
    assert cli("compare", world.run, new_world.run, "--json").value["notes"]


def test_a_comparison_is_drawn_into_a_folder(cli, world, faster, tmp_path):
    outcome = cli("compare", world.run, faster, "--output", tmp_path / "all", "--json")
    assert outcome.value["runs"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["compare.html", "compare.png", "compare.svg"]
    assert outcome.err.count("wrote ") == 3


def test_one_run_alone_is_shown_too(cli, world):
    assert cli("compare", world.run).out.splitlines()[0].split() == ["run"]


def test_what_is_no_run_is_refused(cli, world, tmp_path):
    cli("compare", world.run, tmp_path).fails(3, f"{tmp_path} is no run: it has no recipe.toml", "stentor train made")
    copy = shutil.copytree(world.run, tmp_path / "copy")
    (copy / "log.jsonl").unlink()
    cli("compare", copy).fails(3, "copy is no run: it has no log.jsonl")


def test_a_name_that_nothing_is_written_under_is_refused_before_the_work(cli, world, tmp_path):
    cli("compare", world.run, "--output", tmp_path / "x.gif").fails(3, "x.gif is no name for a comparison", ".html")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_table_needs_nothing_and_a_picture_names_the_extra(cli, world, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli("compare", world.run).code == 0
    cli("compare", world.run, "--output", tmp_path / "x.svg").fails(4, "pip install 'stentor[report]'")
