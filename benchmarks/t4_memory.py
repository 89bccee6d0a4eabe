"""Claim: the reference's recipe trains within a T4's 15 GB, in float16, with the losses that float32 has.

usage: python benchmarks/t4_memory.py SHARDS        (a folder that `stentor prepare` made; needs a GPU)

A T4 multiplies in float16, not bfloat16, and has no FlashAttention: whatever the GPU, products are in float16 with a
loss scale, attention is torch's memory-efficient or plain one, and torch is refused more than 15 GB. The recipe is the
faithful one, 8 sequences of 1,024 tokens at a time, INT8 in the forward pass, for a few steps that reach the full
learning rate; with the fused kernels, which Triton compiles for a T4 too, and without. What a T4 needs for its own
context, and what a GPU of another generation chooses inside its libraries, is not measured.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from record import Claim, record
from torch.nn.attention import SDPBackend, sdpa_kernel

from stentor.config import Recipe
from stentor.model import llama
from stentor.model.ops import Way
from stentor.shards.build import Shards, open_shards
from stentor.train.log import LOG_NAME
from stentor.train.loop import train
from stentor.train.plan import memory_bytes

LIMIT_BYTES = 15_000_000_000
NUM_STEPS = 30
MOST_NATS_APART = 0.01
ATTENTION = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""What a T4 has."""
SHORT = {
    "train.tokens": NUM_STEPS * 16_384,
    "train.warmup_steps": NUM_STEPS // 3,
    "train.eval_every": 10**9,
    "train.save_every": 10**9,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run took, evaluation and checkpoint included, and its losses.

    Attributes:
        allocated_bytes: the most that tensors held at once.
        reserved_bytes: the most that torch held of the device: those, what it keeps for later, and the recorded update.
        device_bytes: all that was taken of the device at the end, the context and libraries too.
        num_left_out: updates whose gradient overflowed.
        losses_nats: of each step.
        loss_nats: on held-out text, at the end.
    """

    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    num_left_out: int
    losses_nats: list[float]
    loss_nats: float


def recipe_in(precision: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Return the reference's recipe, a few steps long."""
    return Recipe.load("stentor2-12m", overrides={**SHORT, "train.precision": precision, **(changes or {})})


def measure(recipe: Recipe, shards: Shards, *, fused: bool) -> Measured:
    """Train as on a T4 and return what it took."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    chosen = llama.way_of if fused else (lambda compute_dtype, device: Way.PLAIN)
    with tempfile.TemporaryDirectory() as folder, sdpa_kernel(ATTENTION), mock.patch.object(llama, "way_of", chosen):
        train(recipe, shards, Path(folder) / "run")
        records = [json.loads(line) for line in (Path(folder) / "run" / LOG_NAME).read_text().splitlines()]
    free, total = torch.cuda.mem_get_info()
    trained = [r for r in records if r["kind"] == "train"]
    return Measured(
        allocated_bytes=torch.cuda.max_memory_allocated(),
        reserved_bytes=torch.cuda.max_memory_reserved(),
        device_bytes=total - free,
        num_left_out=sum(r["grad_norm"] is None for r in trained),
        losses_nats=[r["loss_nats"] for r in trained],
        loss_nats=next(r["loss_nats"] for r in reversed(records) if r["kind"] == "evaluation"),
    )


def measure_all(shards: Shards, changes: dict[str, Any] | None = None) -> dict[str, Measured]:
    """Measure float16 with fused kernels and without, and float32, which the losses are compared with."""
    float16, float32 = recipe_in("float16", changes), recipe_in("float32", changes)
    ways = {"fused kernels": (float16, True), "plain operations": (float16, False), "float32": (float32, False)}
    measured = {}
    for name, (recipe, fused) in ways.items():
        measured[name] = measure(recipe, shards, fused=fused)
        print(name, asdict(measured[name]), flush=True)
    return measured


def claims_of(measured: dict[str, Measured]) -> list[Claim]:
    """Return what was found: memory against the limit and the estimate, losses against float32."""
    exact, claims = measured["float32"], []
    estimate = memory_bytes(recipe_in("float16"), torch.float16) / 1e9
    memory: dict[str, Any] = {"unit": "GB", "better": "lower", "target": LIMIT_BYTES / 1e9}
    for name in ("fused kernels", "plain operations"):
        found = measured[name]
        apart = max(abs(a - b) for a, b in zip(found.losses_nats, exact.losses_nats, strict=True))
        allocated, reserved = found.allocated_bytes / 1e9, found.reserved_bytes / 1e9
        claims += [
            Claim(what=f"peak of tensors, float16, {name}", value=allocated, peer="estimate of --dry-run",
                  peer_value=estimate, **memory),
            Claim(what=f"peak that torch holds, float16, {name}", value=reserved, **memory),
            Claim(what=f"largest difference of a step's loss from float32, {name}", value=apart, unit="nats",
                  better="lower", target=MOST_NATS_APART),
        ]  # fmt: skip
    return claims


def main() -> None:
    """Measure on this GPU, held to a T4's memory, and record it."""
    if not torch.cuda.is_available():
        sys.exit("t4_memory measures the memory of a GPU, and torch finds no CUDA device here")
    shards = open_shards(Path(sys.argv[1]))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, LIMIT_BYTES / total))
    measured = measure_all(shards)
    details = {name: asdict(found) for name, found in measured.items()}
    print(record("t4_memory", claims_of(measured), details).read_text())


if __name__ == "__main__":
    main()
