"""Claim: with weights in four bits a CPU makes a token no later than with INT8, and reads little over half as much.

usage: python benchmarks/cpu_weights.py

Random weights of the published shapes with normed queries and keys, an INT8 cache, one thread. Milliseconds are
processor time, the best of many turns that the dtypes take one after the other: other work on the machine only ever
slows one down.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

import numpy as np
from record import Claim, record

from stentor.model.config import ModelConfig
from stentor.model.names import expected_shapes
from stentor.model.presets import preset
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork

SHAPES = ("stentor2-12m", "stentor2-30m")
DTYPES = ("int8", "int4")
POSITION = 128
TURNS, TOKENS_PER_TURN = 60, 8


def network(config: ModelConfig, dtype: str) -> CpuNetwork:
    """Return a network of random weights that has read the positions before."""
    random = np.random.default_rng(0)
    tensors = {
        name: (random.standard_normal(shape, dtype=np.float32) * 0.05 + (len(shape) == 1)).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    made = CpuNetwork(config, tensors, dtype=dtype, cache_dtype="int8")
    for start in range(0, POSITION, MAX_TOKENS):
        made.logits([1] * MAX_TOKENS, range(start, start + MAX_TOKENS))
    return made


def decode_ms(made: CpuNetwork) -> float:
    """Return the processor time of a token alone, in one turn."""
    started = time.thread_time()
    for _ in range(TOKENS_PER_TURN):
        made.logits([5], [POSITION])
    return (time.thread_time() - started) * 1e3 / TOKENS_PER_TURN


def prefill_ms(made: CpuNetwork) -> float:
    """Return the processor time of a token among as many as a pass can have, in one turn."""
    started = time.thread_time()
    made.logits([5] * MAX_TOKENS, range(MAX_TOKENS), first_scored=MAX_TOKENS - 1)
    return (time.thread_time() - started) * 1e3 / MAX_TOKENS


def layer_megabytes(made: CpuNetwork) -> float:
    """Return the size of the weights of all layers, which is where those of the head begin."""
    return int(made._packed.arrays[5][0, 0]) / 1e6


def claims_of(shape: str) -> list[Claim]:
    """Measure a shape in both dtypes."""
    networks = {dtype: network(replace(preset(shape), carrier="qwen3"), dtype) for dtype in DTYPES}
    decode, prefill = ({dtype: float("inf") for dtype in DTYPES} for _ in range(2))
    for _ in range(TURNS):
        for dtype, made in networks.items():
            decode[dtype] = min(decode[dtype], decode_ms(made))
            prefill[dtype] = min(prefill[dtype], prefill_ms(made))
    sizes = {dtype: layer_megabytes(made) for dtype, made in networks.items()}
    measured = (
        ("a token alone", "ms", decode, decode["int8"]),
        (f"a token among {MAX_TOKENS} of a prompt", "ms", prefill, None),
        ("weights of layers read for a token", "MB", sizes, 0.6 * sizes["int8"]),
    )
    return [
        Claim(
            what=f"{shape}: {what}, int4",
            value=found["int4"],
            unit=unit,
            better="lower",
            target=target,
            peer="int8",
            peer_value=found["int8"],
        )
        for what, unit, found, target in measured
    ]


def main() -> None:
    """Measure every shape, and record it."""
    print(f"load before the run: {os.getloadavg()}", file=sys.stderr)
    claims = [claim for shape in SHAPES for claim in claims_of(shape)]
    print(record("cpu_weights", claims).read_text())
    print(f"load after the run: {os.getloadavg()}", file=sys.stderr)


if __name__ == "__main__":
    main()
