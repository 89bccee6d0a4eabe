"""Claim: what the best recipe reaches with the whole budget, 240M tokens, with a teacher and without.

usage: python benchmarks/recipe_budget.py SHARDS RUNS [NAME ...]     (a folder that `stentor prepare` made; needs a GPU)

Teachers are trained on the same tokens and nothing else; their cost stands beside what they bring. A run that
`results/recipe_budget.jsonl` holds is not made again, but for a teacher that RUNS has not: others learn from it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, Claim, record

from stentor.artifacts import append_line
from stentor.config import Recipe
from stentor.shards.build import open_shards
from stentor.train.log import LOG_NAME
from stentor.train.loop import train

LINES = RESULTS / "recipe_budget.jsonl"
TEACHER, SECOND_TEACHER = "the teacher", "the teacher, seed 1"
ITSELF = ("", ", seed 1", ", two teachers")
LIMITS = {"qwen3": 1.165, "llama": 1.175}
RANDOM: dict[str, Any] = {"train.initializer": "scaled"}
ALONE: dict[str, Any] = {**RANDOM, "train.teachers": []}
LLAMA: dict[str, Any] = {"model.carrier": "llama"}
FASTER: dict[str, Any] = {"train.matrix_lr": 0.03, "train.embedding_lr": 0.02}
BEST, REFERENCE = "stentor2-12m-best", "stentor2-12m"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "the reference's recipe": (REFERENCE, {}),
    TEACHER: ("stentor2-12m-teacher", {}),
    SECOND_TEACHER: ("stentor2-12m-teacher", {"train.seed": 1}),
    "qwen3 alone": (BEST, ALONE),
    "qwen3 alone, seed 1": (BEST, {**ALONE, "train.seed": 1}),
    "qwen3 alone, rates of the ablation": (BEST, {**ALONE, **FASTER}),
    "qwen3 alone, rates of the ablation, seed 1": (BEST, {**ALONE, **FASTER, "train.seed": 1}),
    "llama alone": (BEST, {**ALONE, **LLAMA}),
    "llama alone, rates of the ablation": (BEST, {**ALONE, **LLAMA, **FASTER}),
    "qwen3, from random weights, a share of 0.5": (BEST, {**RANDOM, "train.teacher_share": 0.5}),
    "qwen3, from random weights": (BEST, RANDOM),
    "qwen3": (BEST, {}),
    "qwen3, seed 1": (BEST, {"train.seed": 1}),
    "qwen3, two teachers": (BEST, {"train.teachers": [TEACHER, SECOND_TEACHER]}),
    "llama": (BEST, LLAMA),
    "llama, seed 1": (BEST, {**LLAMA, "train.seed": 1}),
    "stentor2-3m-best": ("stentor2-3m-best", {}),
    "stentor2-30m-best": ("stentor2-30m-best", {}),
}


def run(name: str, shards_dir: Path, runs_dir: Path) -> dict[str, Any]:
    """Make one run, or go on with it, and return what came of it."""
    base, overrides = RUNS[name]
    if Recipe.load(base, overrides=overrides).train.teachers:
        teachers = overrides.get("train.teachers", [TEACHER])
        overrides = {**overrides, "train.teachers": [str(runs_dir / teacher) for teacher in teachers]}
    recipe = Recipe.load(base, overrides=overrides)
    run_dir, started = runs_dir / name, time.perf_counter()
    train(recipe, open_shards(shards_dir), run_dir)
    seconds = time.perf_counter() - started
    records = [json.loads(line) for line in (run_dir / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    return summary(name, records, seconds, torch.cuda.get_device_name())


def summary(name: str, records: list[dict[str, Any]], seconds: float, device: str) -> dict[str, Any]:
    """Return what is kept of a run: its end, its speed, and its curves."""
    trained = [r for r in records if r["kind"] == "train"]
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    base, overrides = RUNS[name]
    return {
        "name": name,
        "recipe": base,
        "overrides": overrides,
        "evaluation": evaluations[-1],
        "evaluations": [[r["step"], round(r["bits_per_byte"], 4)] for r in evaluations],
        "tokens_per_second": sorted(r["tokens_per_second"] for r in trained)[len(trained) // 2],
        "losses_nats": [round(r["loss_nats"], 4) for r in trained[::50]],
        "seconds": round(seconds, 1),
        "device": device,
    }


def results() -> dict[str, dict[str, Any]]:
    """Return the runs made so far, by name."""
    lines = LINES.read_text(encoding="utf-8").splitlines() if LINES.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def claims() -> list[Claim]:
    """Return a row for each run, against the carrier's limit where the run is the recipe itself."""
    rows = []
    for name, result in results().items():
        carrier = name.split(",")[0]
        rows.append(
            Claim(
                what=name, value=result["evaluation"]["bits_per_byte"], unit="bits per byte", better="lower",
                target=LIMITS.get(carrier) if name.removeprefix(carrier) in ITSELF else None,
            )
        )  # fmt: skip
    return rows


def main() -> None:
    """Make the runs that are missing and write the table."""
    shards_dir, runs_dir = map(Path, sys.argv[1:3])
    for name in sys.argv[3:] or RUNS:
        others_learn_from_it = name in (TEACHER, SECOND_TEACHER) and not (runs_dir / name).exists()
        if name not in results() or others_learn_from_it:
            append_line(LINES, json.dumps(run(name, shards_dir, runs_dir)))
            print(name, results()[name]["evaluation"]["bits_per_byte"], flush=True)
    devices = ", ".join(sorted({result["device"] for result in results().values()}))
    print(record("recipe_budget", claims(), machine=devices).read_text())


if __name__ == "__main__":
    main()
