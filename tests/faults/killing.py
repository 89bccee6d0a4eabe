"""Asks `training_process.py` for runs that die, and tells what came of them; for tests and `benchmarks/kills.py`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stentor.artifacts import write_file
from stentor.config import Recipe

KILLED = -signal.SIGKILL
ALARMED = -signal.SIGALRM


RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "adamw": {},
    "muon": {
        "model": {"carrier": "qwen3", "num_key_value_heads": 1},
        "train": {"optimizer": "muon", "matrix_lr": 0.02, "average_decay": 0.9, "mask_across_documents": True},
    },
    "float16": {"train": {"precision": "float16", "fake_quantize": "int8", "float32_parts": "embedding"}},
}
"""What is changed in a recipe: nothing; all that has a state of its own; what the reference trains with on a T4."""


def write_recipes(recipe: Recipe, folder: Path) -> list[Path]:
    """Write each of `RECIPES`, as a change of a recipe, into a folder."""
    for name, changes in RECIPES.items():
        parts = {part: dataclasses.replace(getattr(recipe, part), **values) for part, values in changes.items()}
        write_file(folder / f"{name}.toml", dataclasses.replace(recipe, name=name, **parts).to_toml())
    return [folder / f"{name}.toml" for name in RECIPES]


class Trainer:
    """Runs `training_process.py` and asks it for runs of recipes."""

    def __init__(self, shards: Path, recipes: list[Path]) -> None:
        script = Path(__file__).with_name("training_process.py")
        # On the CPU: only there is the same result promised, and only there can a process fork after computing.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, script, shards, *recipes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, run: Path, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"run": str(run), **request}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


class World:
    """Runs of one recipe, and the result of one that nothing disturbs.

    Attributes:
        undisturbed: that result.
        calls: the names of the calls that change the disk, in all saves of such a run.
        saves: of each save, how many calls were made before it and up to its end.
        seconds: that such a run takes.
    """

    def __init__(self, trainer: Trainer, recipe: str, folder: Path) -> None:
        self._trainer, self._recipe = trainer, recipe
        self.undisturbed = self.resumed(folder / "undisturbed")  # the first one waits until the process is ready
        started = time.perf_counter()
        counted = self(folder / "counted", only_in_saves=True)
        self.seconds = time.perf_counter() - started
        self.calls: list[str] = counted["calls"]
        self.saves: list[tuple[int, int]] = counted["saves"]

    def __call__(self, run: Path, **request: Any) -> dict[str, Any]:
        return self._trainer(run, recipe=self._recipe, **request)

    def resumed(self, run: Path) -> dict[str, Any]:
        """Resume a run to its end and return its result."""
        ended = self(run)
        assert ended["code"] == 0, ended["message"]
        return result(run)

    def killed_in_a_save(self, run: Path, die_at: int) -> dict[str, Any]:
        """Let a run kill itself at a call within its saves, resume it to its end and return its result."""
        assert self(run, only_in_saves=True, die_at=die_at)["code"] == KILLED
        return self.resumed(run)

    @property
    def fullest_save(self) -> range:
        """The calls of the save that makes the most, counted from 1 over all saves: it drops older checkpoints too."""
        before, after = max(self.saves, key=lambda save: save[1] - save[0])
        return range(before + 1, after + 1)


def result(run: Path) -> dict[str, Any]:
    """Return all that must not depend on what happened on the way."""
    checkpoints = run / "checkpoints"
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = {
        "train": ("step", "tokens_seen", "loss_nats", "lr", "grad_norm"),
        "evaluation": ("step", "tokens_seen", "loss_nats", "bits_per_byte"),
    }
    return {
        "files": {
            path.relative_to(checkpoints).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(checkpoints.rglob("*"))
            if path.is_file()
        },
        "best": (run / "best.json").read_text(),
        "latest": (run / "latest.json").read_text(),
        "recipe": (run / "recipe.toml").read_text(),
        "log": [(r["kind"], *(r[key] for key in kept[r["kind"]])) for r in records if r["kind"] in kept],
        "finished": {(r["step"], r["best_step"]) for r in records if r["kind"] == "finished"},  # at every visit anew
        "names": sorted(path.name for path in (*run.iterdir(), *checkpoints.iterdir())),
    }
