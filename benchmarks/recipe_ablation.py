"""Claim: what each ingredient of the best recipe is worth, in bits per byte on held-out text, at a part of the budget.

usage: python benchmarks/recipe_ablation.py SHARDS TEACHER [NAME ...]      (needs a GPU)

SHARDS is a folder that `stentor prepare` made, TEACHER a run of stentor2-12m-teacher on it. Each run changes one thing:
of a model that learns alone from 60M tokens, or of one that learns with a teacher from 120M. A run that
`results/recipe_ablation.jsonl` holds is not made again: the file grows run by run, and the table of claims is read
from it.
"""

from __future__ import annotations

import json
import sys
import tempfile
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

LINES = RESULTS / "recipe_ablation.jsonl"
BEST = "stentor2-12m-best"
TOKENS, TAUGHT_TOKENS = 60_000_000, 120_000_000
BASE: dict[str, Any] = {
    "model.carrier": "qwen3",
    "model.rope_theta": 100_000.0,
    "train.optimizer": "muon",
    "train.matrix_lr": 0.02,
    "train.lr": 6e-3,
    "train.embedding_lr": 0.015,
    "train.beta1": 0.8,
    "train.epsilon": 1e-10,
    "train.embedding_weight_decay": 0.01,
    "train.schedule": "linear",
    "train.warmup_steps": 5,
    "train.min_lr_ratio": 0.05,
    "train.initializer": "scaled",
    "train.global_batch_tokens": 32_768,
    "train.micro_batch_size": 32,
}
ADAMW = {
    "model.carrier": "llama",
    "model.rope_theta": 10_000.0,
    "train.optimizer": "adamw",
    "train.lr": 3e-3,
    "train.embedding_lr": 0.0,
    "train.beta1": 0.9,
    "train.epsilon": 1e-8,
    "train.embedding_weight_decay": 0.1,
    "train.schedule": "cosine",
    "train.warmup_steps": 100,
    "train.min_lr_ratio": 0.0,
    "train.initializer": "normal",
}
COMBINED = {"train.matrix_lr": 0.03, "train.embedding_lr": 0.02, "train.average_decay": 0.998}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "norms not learned": {"train.learns_norms": False},
    "matrix lr 0.03": {"train.matrix_lr": 0.03},
    "matrix lr 0.014": {"train.matrix_lr": 0.014},
    "embedding lr 0.03": {"train.embedding_lr": 0.03},
    "16,384 tokens per step, rates / sqrt(2)": {
        "train.global_batch_tokens": 16_384,
        "train.micro_batch_size": 16,
        "train.matrix_lr": 0.014,
        "train.lr": 4e-3,
        "train.embedding_lr": 0.01,
    },
    "decay over the whole run": {"train.decay_ratio": 1.0},
    "momentum 0.97": {"train.momentum": 0.97},
    "weight decay 0.3": {"train.weight_decay": 0.3},
    "llama (no query and key norms)": {"model.carrier": "llama"},
    "averaged, 0.998": {"train.average_decay": 0.998},
    "combined: 0.03, 0.02, averaged": COMBINED,
    "combined, matrix lr 0.04, weight decay 0.05": {**COMBINED, "train.matrix_lr": 0.04, "train.weight_decay": 0.05},
    "combined, 16,384 tokens per step, matrix lr 0.02": {
        **COMBINED,
        "train.global_batch_tokens": 16_384,
        "train.micro_batch_size": 16,
        "train.matrix_lr": 0.02,
    },
    "combined, 65,536 tokens per step, rates * 4 / 3": {
        **COMBINED,
        "train.global_batch_tokens": 65_536,
        "train.matrix_lr": 0.04,
        "train.lr": 8e-3,
        "train.embedding_lr": 0.03,
    },
    "combined, betas 0.9 and 0.99": {**COMBINED, "train.beta1": 0.9, "train.beta2": 0.99},
    "AdamW at 3e-3, cosine, normal(0, 0.02)": ADAMW,
}


TAUGHT_BASE = "taught, from random weights"
TAUGHT: dict[str, dict[str, Any]] = {
    TAUGHT_BASE: {},
    "taught, a part of the teacher at first": {"train.initializer": "teacher"},
    "taught, from random weights: a share of 1.0": {"train.teacher_share": 1.0},
    "taught, from random weights: matrix lr 0.03, embedding lr 0.02": {
        "train.matrix_lr": 0.03,
        "train.embedding_lr": 0.02,
    },
    "taught, from random weights: decay over the whole run": {"train.decay_ratio": 1.0},
}


def recipe_of(name: str, teacher: str) -> tuple[Recipe, dict[str, Any]]:
    """Return what one variant trains, and what sets it apart."""
    if name in TAUGHT:
        overrides, base, budget = {"train.initializer": "scaled", **TAUGHT[name]}, BEST, TAUGHT_TOKENS
        given = {**overrides, "train.teachers": [teacher]}
    else:
        overrides, base, budget = {**BASE, **VARIANTS[name]}, "stentor2-12m", TOKENS
        given = {**NOT_FAITHFUL, **overrides}
    step = given.get("train.global_batch_tokens", 32_768)
    fixed = {"train.tokens": budget // step * step, "train.eval_every": 10**9, "train.save_every": 10**9}
    return Recipe.load(base, overrides={**given, **fixed}), overrides


def run(name: str, shards_dir: Path, teacher: str) -> dict[str, Any]:
    """Train one variant and return what came of it."""
    recipe, overrides = recipe_of(name, teacher)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, open_shards(shards_dir), Path(folder) / "run")
        records = [json.loads(line) for line in (Path(folder) / "run" / LOG_NAME).read_text().splitlines()]
    trained = [r for r in records if r["kind"] == "train"]
    return {
        "name": name,
        "overrides": overrides,
        "evaluation": next(r for r in reversed(records) if r["kind"] == "evaluation"),
        "tokens_per_second": sorted(r["tokens_per_second"] for r in trained)[len(trained) // 2],
        "losses_nats": [round(r["loss_nats"], 4) for r in trained[::20]],
        "seconds": round(time.perf_counter() - started, 1),
        "device": torch.cuda.get_device_name(),
    }


NOT_FAITHFUL = {"train.fake_quantize": "none", "train.float32_parts": "none"}
"""The recipe whose shape and budget are taken rounds to INT8; these runs do not."""


def results() -> dict[str, dict[str, Any]]:
    """Return the runs made so far, by name."""
    lines = LINES.read_text(encoding="utf-8").splitlines() if LINES.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def main() -> None:
    """Make the runs that are missing and write the table."""
    shards_dir, teacher, *names = sys.argv[1:]
    for name in names or (*VARIANTS, *TAUGHT):
        if name not in results():
            append_line(LINES, json.dumps(run(name, Path(shards_dir), teacher)))
            print(name, results()[name]["evaluation"]["bits_per_byte"], flush=True)
    print(record("recipe_ablation", claims(), machine=devices()).read_text())


def claims() -> list[Claim]:
    """Return a row for each run, beside the base it changes."""
    rows, done = [], results()
    for name, result in done.items():
        base = TAUGHT_BASE if name in TAUGHT else "base"
        rows.append(
            Claim(
                what=name, value=result["evaluation"]["bits_per_byte"], unit="bits per byte", better="lower",
                peer=base, peer_value=done[base]["evaluation"]["bits_per_byte"],
            )
        )  # fmt: skip
    return rows


def devices() -> str:
    """Return what the runs were made on."""
    return ", ".join(sorted({result["device"] for result in results().values()}))


if __name__ == "__main__":
    main()
