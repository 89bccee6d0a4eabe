"""Claim: training the reference's shape, `stentor train` is faster on one GPU than every stock way, by how much.

usage: python benchmarks/train_throughput.py SHARDS        (a folder that `stentor prepare` made; needs a GPU)

Every way does the whole work: data, forward, backward, clipping, update, and reading the loss as users log it. Ours is
the training loop itself, logging every step; its set-up (kernels compiled, the step recorded) is reported apart.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from record import Claim, record
from torch import nn

from stentor.config import Recipe
from stentor.model.fake_quant import fake_quantize
from stentor.shards.build import Shards, open_shards
from stentor.shards.pack import PackedSequences
from stentor.train.log import LOG_NAME
from stentor.train.loop import train

WARM_STEPS, TIMED_STEPS = 60, 200
STOCK_WARM, STOCK_TIMED = 8, 40
MINIMUM = 2.8e6
BEST = {
    "model.carrier": "qwen3",
    "model.rope_theta": 100_000.0,
    "train.optimizer": "muon",
    "train.initializer": "scaled",
    "train.schedule": "linear",
}


class Int8Linear(nn.Linear):
    """What the reference trains: a float32 master that the product sees rounded to INT8."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        return F.linear(input, fake_quantize(self.weight))


def ours(shards: Shards, tokens_per_step: int, overrides: dict[str, Any]) -> tuple[float, float]:
    """Return tokens/s of our loop in its steady state, and the seconds before its first step was done."""
    steps = WARM_STEPS + TIMED_STEPS
    fixed = {
        "train.tokens": steps * tokens_per_step,
        "train.global_batch_tokens": tokens_per_step,
        "train.micro_batch_size": tokens_per_step // 1024,
        "train.eval_every": 10**9,
        "train.save_every": 10**9,
        "train.precision": "bfloat16",
        "train.fake_quantize": "none",
        "train.float32_parts": "none",
    }
    recipe = Recipe.load("stentor2-12m", overrides={**fixed, **overrides})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(recipe, shards, Path(folder) / "run")
        seconds = time.perf_counter() - started
        records = [json.loads(line) for line in (Path(folder) / "run" / LOG_NAME).read_text().splitlines()]
    taken = [r["seconds"] for r in records if r["kind"] == "train"]
    return tokens_per_step * TIMED_STEPS / sum(taken[WARM_STEPS:]), seconds - sum(taken[WARM_STEPS // 2 :])


def stock(shards: Shards, sequences: int, *, compiled: str | None, int8: bool = False, micro_batches: int = 1) -> float:
    """Return tokens/s of transformers' Llama with torch's own AdamW, autocast, clipping and a logged loss."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch._dynamo.reset()
    config = LlamaConfig(
        vocab_size=8064,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=12,
        num_attention_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    model.cuda()  # pyright: ignore[reportCallIssue] - its stub lost the self
    if int8:
        for module in model.model.layers.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = Int8Linear
    scaler = torch.amp.GradScaler("cuda", enabled=int8)
    forward: Callable[..., Any] = torch.compile(model, mode=compiled) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    packed, started = PackedSequences(shards.train, 1024), 0.0
    for step in range(STOCK_WARM + STOCK_TIMED):
        if step == STOCK_WARM:
            torch.cuda.synchronize()
            started = time.perf_counter()
        ids = torch.from_numpy(packed.batch(np.arange(sequences) + step * sequences % 512)[0]).to("cuda")
        loss = torch.zeros(())
        for micro in ids.chunk(micro_batches):
            with torch.autocast("cuda", torch.float16 if int8 else torch.bfloat16):
                loss = forward(input_ids=micro, labels=micro).loss / micro_batches
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        float(loss.detach())
    torch.cuda.synchronize()
    return STOCK_TIMED * sequences * 1024 / (time.perf_counter() - started)


def main() -> None:
    """Measure all ways on this GPU and record them."""
    shards = open_shards(Path(sys.argv[1]))
    peers = {
        "the reference's recipe in transformers (eager float16, scaled loss, INT8 linears, 8 x 1024 x 2)": stock(
            shards, 16, compiled=None, int8=True, micro_batches=2
        ),
        "transformers, eager bfloat16, 32 x 1024": stock(shards, 32, compiled=None),
        "transformers, torch.compile, 32 x 1024": stock(shards, 32, compiled="default"),
        "transformers, torch.compile reduce-overhead, 32 x 1024": stock(shards, 32, compiled="reduce-overhead"),
    }
    print(json.dumps(peers), flush=True)
    torch._dynamo.reset()
    adamw, set_up = ours(shards, 32_768, {})
    best, best_set_up = ours(shards, 32_768, BEST)
    int8, _ = ours(shards, 32_768, {"train.fake_quantize": "int8"})
    small, _ = ours(shards, 16_384, {})
    small_best, _ = ours(shards, 16_384, BEST)
    common: dict[str, Any] = {"unit": "tokens/s", "better": "higher"}
    claims = [
        *(
            Claim(what="train, AdamW, 32,768 tokens per step", value=adamw, peer=name, peer_value=value, **common)
            for name, value in peers.items()
        ),
        Claim(what="train, AdamW, 32,768 tokens per step", value=adamw, target=MINIMUM, **common),
        Claim(what="train, qwen3 with Muon, 32,768 tokens per step", value=best, target=MINIMUM, **common),
        Claim(what="train, AdamW, 16,384 tokens per step", value=small, **common),
        Claim(what="train, qwen3 with Muon, 16,384 tokens per step", value=small_best, **common),
        Claim(
            what="train with INT8 in the forward pass", value=int8, peer="without", peer_value=adamw,
            target=0.9 * adamw, **common,
        ),
        Claim(what="set-up of a run, AdamW", value=set_up, unit="s", better="lower", target=60),
        Claim(what="set-up of a run, Muon", value=best_set_up, unit="s", better="lower", target=60),
    ]  # fmt: skip
    print(record("train_throughput", claims).read_text())


if __name__ == "__main__":
    main()
