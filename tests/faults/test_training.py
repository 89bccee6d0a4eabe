"""Kill a run anywhere, fill its disk anywhere: resumed, it ends with the bytes of a run that nothing disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stentor.artifacts import write_file

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

CRASHED = 137
KILLED = -signal.SIGALRM
STEPS = 13


class Trainer:
    """Runs `training_process.py` and asks it for runs."""

    def __init__(self, recipe: Path, shards: Path) -> None:
        script = Path(__file__).with_name("training_process.py")
        # On the CPU: only there is the same result promised, and only there can a process fork after computing.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, script, recipe, shards],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, run: Path, **request) -> dict:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"run": str(run), **request}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, tiny_recipe, tiny_shards):
    recipe = tmp_path_factory.mktemp("faults") / "tiny-test.toml"
    write_file(recipe, tiny_recipe.to_toml())
    trainer = Trainer(recipe, tiny_shards.path)
    yield trainer
    trainer.close()


def result(run: Path) -> dict:
    """Return all that must not depend on what happened on the way."""
    checkpoints = run / "checkpoints"
    last = checkpoints / f"step-{STEPS:07d}"
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = {
        "train": ("step", "tokens_seen", "loss_nats", "lr", "grad_norm"),
        "evaluation": ("step", "tokens_seen", "loss_nats", "bits_per_byte"),
        "finished": ("step", "best_step"),
    }
    return {
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(last.iterdir())},
        "best": (run / "best.json").read_text(),
        "latest": (run / "latest.json").read_text(),
        "recipe": (run / "recipe.toml").read_text(),
        "log": [(r["kind"], *(r[key] for key in kept[r["kind"]])) for r in records if r["kind"] in kept],
        "names": sorted(path.name for path in (*run.iterdir(), *checkpoints.iterdir())),
    }


@pytest.fixture(scope="module")
def undisturbed(trainer, tmp_path_factory) -> dict:
    """Return the result of a run that nothing disturbs."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert trainer(run)["code"] == 0
    return result(run)


@pytest.fixture(scope="module")
def calls_in_saves(trainer, tmp_path_factory) -> list[str]:
    """Return the names of the calls that change the disk, in all saves of a run."""
    return trainer(tmp_path_factory.mktemp("counted") / "run", only_in_saves=True)["calls"]


def resumed(trainer: Trainer, run: Path) -> dict:
    """Resume a run to its end and return its result."""
    ended = trainer(run)
    assert ended["code"] == 0, ended["message"]
    return result(run)


def dies_in_a_save_and_resumes(trainer: Trainer, run: Path, die_at: int) -> dict:
    assert trainer(run, only_in_saves=True, die_at=die_at)["code"] == CRASHED
    return resumed(trainer, run)


@pytest.mark.parametrize(("num_lines", "delay"), [(1, 0.0001), (9, 0.004), (20, 0.0001)])
def test_a_killed_run_resumes_to_the_same_result(trainer, undisturbed, tmp_path, num_lines, delay):
    assert trainer(tmp_path / "run", kill_after=num_lines, delay=delay)["code"] == KILLED
    assert resumed(trainer, tmp_path / "run") == undisturbed


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_run_that_dies_inside_a_save_resumes_to_the_same_result(
    trainer, undisturbed, calls_in_saves, tmp_path, share
):
    die_at = int(share * len(calls_in_saves))
    assert dies_in_a_save_and_resumes(trainer, tmp_path / "run", die_at) == undisturbed


def test_a_run_that_dies_before_it_names_its_best_checkpoint_names_it_later(
    trainer, undisturbed, calls_in_saves, tmp_path
):
    naming_of_the_best = len(calls_in_saves) - calls_in_saves[::-1].index("replace")
    got = dies_in_a_save_and_resumes(trainer, tmp_path / "run", naming_of_the_best)
    assert got["best"] == undisturbed["best"]
    assert got == undisturbed


def test_a_run_killed_again_and_again_resumes_to_the_same_result(trainer, undisturbed, tmp_path):
    for die_at in (150, 120, 90, 60):
        assert trainer(tmp_path / "run", die_at=die_at)["code"] == CRASHED
    assert resumed(trainer, tmp_path / "run") == undisturbed


@pytest.mark.parametrize("request_", [{"full_from": 30}, {"full_from": 190, "only_in_saves": True}])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(trainer, undisturbed, tmp_path, request_):
    ended = trainer(tmp_path / "run", **request_)
    assert ended["code"] == 3
    message, fix = ended["message"].splitlines()
    assert message.startswith("no space left on the disk while writing ")
    assert fix.startswith("  fix: free some space")
    assert resumed(trainer, tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_forty_deaths_and_a_disk_full_ten_times(trainer, undisturbed, calls_in_saves, tmp_path):
    draw = random.Random(2)
    for attempt in range(20):
        run = tmp_path / f"killed-{attempt}"
        assert trainer(run, kill_after=draw.randint(1, 18), delay=draw.uniform(1e-6, 0.01))["code"] == KILLED
        assert resumed(trainer, run) == undisturbed
    for die_at in draw.sample(range(1, len(calls_in_saves) + 1), 20):
        assert dies_in_a_save_and_resumes(trainer, tmp_path / f"died-{die_at}", die_at) == undisturbed, die_at
    for full_from in draw.sample(range(1, len(calls_in_saves) - 40), 10):
        run = tmp_path / f"full-{full_from}"
        assert trainer(run, only_in_saves=True, full_from=full_from)["code"] == 3
        assert resumed(trainer, run) == undisturbed, full_from
