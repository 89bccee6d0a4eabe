"""Kill a run anywhere, fill its disk anywhere: resumed, it ends with the bytes of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import ALARMED, KILLED, RECIPES, Trainer, World, write_recipes

from stentor.artifacts import verify_directory, write_file
from stentor.train.checkpoint import load_latest

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

every_recipe = pytest.mark.parametrize("recipe", RECIPES)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, tiny_recipe, tiny_shards):
    recipes = write_recipes(tiny_recipe, tmp_path_factory.mktemp("recipes"))
    trainer = Trainer(tiny_shards.path, recipes)
    yield trainer
    trainer.close()


@pytest.fixture(scope="module")
def worlds(trainer, tmp_path_factory) -> dict[str, World]:
    """Return, for every recipe, a function that makes its runs, and the result of one that nothing disturbs."""
    return {name: World(trainer, name, tmp_path_factory.mktemp(name)) for name in RECIPES}


@pytest.fixture(scope="module")
def world(worlds) -> World:
    return worlds["adamw"]


@pytest.mark.parametrize(("num_lines", "delay"), [(1, 0.0001), (9, 0.004), (20, 0.0001)])
def test_a_killed_run_resumes_to_the_same_result(world, tmp_path, num_lines, delay):
    assert world(tmp_path / "run", kill_after=num_lines, delay=delay)["code"] == ALARMED
    assert world.resumed(tmp_path / "run") == world.undisturbed


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_run_that_dies_inside_a_save_resumes_to_the_same_result(world, tmp_path, share):
    die_at = int(share * len(world.calls))
    assert world.killed_in_a_save(tmp_path / "run", die_at) == world.undisturbed


@every_recipe
def test_whatever_has_a_state_of_its_own_comes_back(worlds, tmp_path, recipe):
    """Muon, averaged weights and Qwen3; float16 with a loss scale that adapts, and INT8 in the forward pass."""
    world, run = worlds[recipe], tmp_path / "run"
    assert world(run, kill_after=10, delay=0.001)["code"] == ALARMED
    in_the_middle = world.fullest_save[len(world.fullest_save) // 2]
    again = world(run, only_in_saves=True, die_at=in_the_middle - world.fullest_save[0] + 1)
    assert again["code"] == KILLED
    assert world.resumed(run) == world.undisturbed


def test_a_run_that_dies_before_it_names_its_best_checkpoint_names_it_later(world, tmp_path):
    naming_of_the_best = len(world.calls) - world.calls[::-1].index("replace")
    got = world.killed_in_a_save(tmp_path / "run", naming_of_the_best)
    assert got["best"] == world.undisturbed["best"]
    assert got == world.undisturbed


def test_a_run_killed_again_and_again_resumes_to_the_same_result(world, tmp_path):
    for die_at in (150, 120, 90, 60):
        assert world(tmp_path / "run", die_at=die_at)["code"] == KILLED
    assert world.resumed(tmp_path / "run") == world.undisturbed


@pytest.mark.parametrize("request_", [{"full_from": 30}, {"full_from": 190, "only_in_saves": True}])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(world, tmp_path, request_):
    ended = world(tmp_path / "run", **request_)
    assert ended["code"] == 3
    message, fix = ended["message"].splitlines()
    assert message.startswith("no space left on the disk while writing ")
    assert fix.startswith("  fix: free some space")
    assert world.resumed(tmp_path / "run") == world.undisturbed


# --- every call of one save ---


def one_save_killed_at(world: World, run: Path, die_at: int) -> None:
    """Kill a run at a call of a save: what stands must be whole, newest or the one before, and the run ends as ever."""
    assert world(run, only_in_saves=True, die_at=die_at)["code"] == KILLED
    found = load_latest(run, on_note=pytest.fail)
    assert found is not None, "a save before this one stands"
    folder, state = found
    assert verify_directory(folder, kind="checkpoint").details["step"] == state.step
    assert world.resumed(run) == world.undisturbed


def test_a_save_changes_the_disk_in_all_the_ways_that_are_counted(world):
    names = {world.calls[die_at - 1] for die_at in world.fullest_save}
    assert names == {"mkdir", "open", "write", "fsync", "rename", "replace", "unlink", "rmdir"}
    assert len(world.fullest_save) > 50
    written = [world.calls[die_at - 1] for die_at in world.fullest_save].count("write")
    assert written == 9, "the model's five files, the training state, the manifest; which is the latest, the best"


@pytest.mark.parametrize("share", [0.05, 0.35, 0.65, 0.95])
def test_a_save_killed_at_a_call_leaves_a_run_that_loads(world, tmp_path, share):
    calls = world.fullest_save
    one_save_killed_at(world, tmp_path / "run", calls[int(share * len(calls))])


@pytest.mark.slow
@every_recipe
def test_a_save_killed_at_every_call_leaves_a_run_that_loads(worlds, tmp_path, recipe):
    for die_at in worlds[recipe].fullest_save:
        one_save_killed_at(worlds[recipe], tmp_path / str(die_at), die_at)


# --- a checkpoint that the disk spoiled ---


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "one bit flipped": flipped,
    "zeros": lambda data: bytes(len(data)),
    "empty": lambda data: b"",
    "missing": lambda data: None,
}


OTHER_FILES = ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("training_state.safetensors", damage) for damage in DAMAGES),
        *((name, "one bit flipped") for name in OTHER_FILES),
        *(pytest.param(name, damage, marks=pytest.mark.slow) for name in OTHER_FILES for damage in DAMAGES),
    ],
)
def test_a_spoiled_newest_checkpoint_is_passed_over_and_named(world, tmp_path, name, damage):
    run = tmp_path / "run"
    assert world(run, kill_after=15, delay=0.0001)["code"] == ALARMED
    newest = max((run / "checkpoints").glob("step-*"))
    data = DAMAGES[damage]((newest / name).read_bytes())
    if data is None:
        (newest / name).unlink()
    else:
        write_file(newest / name, data)
    assert world.resumed(run) == world.undisturbed
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (note,) = (record["message"] for record in records if record["kind"] == "note")
    assert note.startswith("passing over a damaged checkpoint: ")
    assert newest.name in note
    assert name in note
    goes_on = [record["step"] for record in records if record["kind"] == "start"][-1]
    assert 0 < goes_on < int(newest.name.removeprefix("step-"))


# --- many of all ---


@pytest.mark.slow
@every_recipe
def test_forty_deaths_and_a_disk_full_ten_times(worlds, tmp_path, recipe):
    world, draw = worlds[recipe], random.Random(2)
    for attempt in range(20):
        run = tmp_path / f"killed-{attempt}"
        assert world(run, kill_after=draw.randint(1, 18), delay=draw.uniform(1e-6, 0.01))["code"] == ALARMED
        assert world.resumed(run) == world.undisturbed
    for die_at in draw.sample(range(1, len(world.calls) + 1), 20):
        assert world.killed_in_a_save(tmp_path / f"died-{die_at}", die_at) == world.undisturbed, die_at
    for full_from in draw.sample(range(1, len(world.calls) - 40), 10):
        run = tmp_path / f"full-{full_from}"
        assert world(run, only_in_saves=True, full_from=full_from)["code"] == 3
        assert world.resumed(run) == world.undisturbed, full_from
