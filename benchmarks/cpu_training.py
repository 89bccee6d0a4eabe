"""Claim: on a CPU, `stentor train` trains the reference's shape faster than the stock ways, at equal loss.

usage: python benchmarks/cpu_training.py SHARDS        (a folder that `stentor prepare` made)

All ways begin with the same weights, see the same sequences and make the same few updates of 16,384 tokens; the loss of
each update is compared. Each way is tried with micro-batches of several sizes, whose gradients are summed, and the size
that suits it best counts. Seconds are the best update's: other work on the machine only ever slows one down.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from record import Claim, record

from stentor.config import Recipe
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.shards.build import Shards, open_shards
from stentor.train.batches import Batches
from stentor.train.log import Record
from stentor.train.loop import train

NUM_STEPS, LEAST, TARGET = 4, 1.2, 1.5
MICRO_BATCH_SIZES = (2, 4, 8)
RECIPE = Recipe.load(
    "stentor2-12m",
    overrides={
        "train.tokens": NUM_STEPS * 16_384,
        "train.fake_quantize": "none",
        "train.float32_parts": "none",
        "train.eval_every": 10**9,
        "train.save_every": 10**9,
        "train.warmup_steps": 0,
        "train.schedule": "linear",
        "train.decay_ratio": 0.0,
    },
)


class _EnoughError(Exception):
    """All steps are timed; the evaluation that a run ends with is not waited for."""


def ours(shards: Shards, micro_batch_size: int, precision: str) -> tuple[float, list[float]]:
    """Return tokens/s and the losses of our loop."""
    table: dict[str, Any] = tomllib.loads(RECIPE.to_toml())
    table["train"] |= {"precision": precision, "micro_batch_size": micro_batch_size}
    recipe = Recipe.from_table(table)
    steps: list[Record] = []

    def observe(entry: Record) -> None:
        if entry["kind"] == "train":
            steps.append(entry)
        if len(steps) == NUM_STEPS:
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_EnoughError):
        train(recipe, shards, Path(folder) / "run", observer=observe)
    return max(step["tokens_per_second"] for step in steps), [step["loss_nats"] for step in steps]


def stock(shards: Shards, micro_batch_size: int, *, autocast: bool, compiled: bool) -> tuple[float, list[float]]:
    """Return tokens/s and losses of transformers' Llama with torch's AdamW, as a careful user would write it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch._dynamo.reset()  # each size of micro-batch is compiled for itself: a shape left open is slower
    sizes = RECIPE.model
    first = Llama(sizes)
    initialize(first, seed=0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.hidden_size,
            intermediate_size=sizes.intermediate_size,
            num_hidden_layers=sizes.num_hidden_layers,
            num_attention_heads=sizes.num_attention_heads,
            max_position_embeddings=sizes.max_position_embeddings,
            rms_norm_eps=sizes.rms_norm_eps,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )
    model.load_state_dict(to_hugging_face(sizes, first.state_dict()), strict=False)
    norms = [p for name, p in model.named_parameters() if "norm" in name]
    matrices = [p for name, p in model.named_parameters() if "norm" not in name]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RECIPE.train.lr, betas=(0.9, 0.95), fused=True)
    forward: Callable[..., Any] = torch.compile(model, dynamic=False) if compiled else model
    batches, seconds, losses = Batches(shards.train, RECIPE), [], []
    for step in range(NUM_STEPS):
        started = time.perf_counter()
        inputs, labels_of_step = batches.of_step(step)
        total = 0.0
        for ids, labels in zip(inputs.split(micro_batch_size), labels_of_step.split(micro_batch_size), strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = forward(input_ids=ids, labels=labels).loss * len(ids) / len(inputs)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
        losses.append(total)
    return RECIPE.train.global_batch_tokens / min(seconds), losses


def main() -> None:
    """Measure all ways on this machine and record them."""
    shards = open_shards(Path(sys.argv[1]))
    ways = {
        "transformers, float32": lambda size: stock(shards, size, autocast=False, compiled=False),
        "transformers, bfloat16 autocast": lambda size: stock(shards, size, autocast=True, compiled=False),
        "transformers, bfloat16 autocast, torch.compile": lambda size: stock(
            shards, size, autocast=True, compiled=True
        ),
        "stentor, float32": lambda size: ours(shards, size, "float32"),
        "stentor, bfloat16": lambda size: ours(shards, size, "bfloat16"),
    }
    measured, all_sizes = {}, {}
    for name, way in ways.items():
        of_size = {size: way(size) for size in MICRO_BATCH_SIZES}
        measured[name] = max(of_size.values(), key=itemgetter(0))
        all_sizes[name] = {
            size: {"tokens_per_second": rate, "losses": losses} for size, (rate, losses) in of_size.items()
        }
        print(name, all_sizes[name], flush=True)
    best_stock = max(rate for name, (rate, _) in measured.items() if name.startswith("transformers"))
    rate, losses = measured["stentor, bfloat16"]
    exact = measured["transformers, float32"][1]
    apart = max(abs(a - b) for a, b in zip(losses, exact, strict=True))
    common: dict[str, Any] = {"unit": "tokens/s", "better": "higher"}
    claims = [
        *(
            Claim(what="train on a CPU, bfloat16", value=rate, peer=name, peer_value=other, **common)
            for name, (other, _) in measured.items()
            if name != "stentor, bfloat16"
        ),
        Claim(what="times the best stock way", value=rate / best_stock, unit="x", better="higher", target=LEAST),
        Claim(what="largest difference of a step's loss from float32", value=apart, unit="nats", better="lower"),
    ]
    print(record("cpu_training", claims, all_sizes).read_text())


if __name__ == "__main__":
    main()
