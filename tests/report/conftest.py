"""Records of a run that never was."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stentor.report.run_log import RunLog
from stentor.report.runs import ComparedRun


def train(step: int, loss_nats: float = 5.0, **more) -> dict:
    record = {"kind": "train", "step": step, "tokens_seen": step * 100, "loss_nats": loss_nats, "lr": 1e-3}
    return {**record, "grad_norm": 1.0, "seconds": 0.5, "tokens_per_second": 200.0, **more}


def evaluation(step: int, loss_nats: float) -> dict:
    numbers = {"loss_nats": loss_nats, "perplexity": math.exp(loss_nats), "bits_per_byte": loss_nats / 2}
    return {"kind": "evaluation", "step": step, "tokens_seen": step * 100, **numbers}


def scales(step: int, num_layers: int = 3, **more_weights) -> dict:
    layers = [0.02 * (layer + 1) + step * 1e-5 for layer in range(num_layers)]
    names = ("qkv", "attention_out", "gate_up", "down", "attention_norm", "mlp_norm")
    return {
        "kind": "scales",
        "step": step,
        "tokens_seen": step * 100,
        "weights": {"embedding": 0.02, "final_norm": 1.0, **dict.fromkeys(names, layers), **more_weights},
        "activations": dict.fromkeys(("attention", "mlp", "residual"), layers),
        "max_logit": 12.5,
    }


def start(step: int = 0, **more) -> dict:
    record = {"kind": "start", "step": step, "num_steps": 1000, "num_parameters": 12_294_400}
    return {**record, "flops_per_token": 92_602_368, "peak_flops": 989e12, **more}


@pytest.fixture(scope="session")
def log() -> RunLog:
    """Return the log of a thousand steps with ten evaluations, the last one worse than the ninth."""
    steps = range(1, 1001)
    losses = {step: 3 + 5 * math.exp(-step / 100) for step in steps}
    return RunLog(
        tuple(train(step, losses[step]) for step in steps),
        tuple(evaluation(step, losses[step] + (0.3 if step == 1000 else 0)) for step in steps[99::100]),
        tuple(scales(step) for step in steps[99::100]),
        (start(),),
    )


def run(name: str, losses: list[float], *, counts: tuple[int, int] = (100, 400), **more_start: Any) -> ComparedRun:
    """Return a run that was evaluated every ten steps, its held-out tokens and bytes counted as given."""
    counted = {"num_tokens": counts[0], "num_bytes": counts[1]}
    evaluations = [{**evaluation(10 * index, loss), **counted} for index, loss in enumerate(losses, start=1)]
    updates = tuple(train(step) for step in range(1, 10 * len(losses) + 1))
    same = {"held_out_sha256": "text and ids", "tokenizer_sha256": "tokens"}
    settings = {"name": name, "train.lr": 1e-3, "train.deterministic": False}
    log = RunLog(updates, tuple(evaluations), (), (start(**{**same, **more_start}),))
    return ComparedRun(name, Path("runs") / name, settings, log)


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """Return what makes records: `train`, `evaluation`, `scales` and `start`; and `run`, a whole one."""
    return SimpleNamespace(train=train, evaluation=evaluation, scales=scales, start=start, run=run)
