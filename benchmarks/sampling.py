"""Claim: with the defaults a token of 8,064 is drawn in under 30 us, a fraction of what transformers' processors take.

usage: python benchmarks/sampling.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from record import Claim, record
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from stentor.runtime.sampling import Sampling, SamplingState, distribution, generator_of, sample

VOCAB_SIZE = 8064
NUM_STEPS = 64
REPEATS = 30
PROMPT_TOKENS = 256
LONG_PROMPT_TOKENS = 16_384
NEUTRAL = Sampling(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
SETTINGS = {
    "the defaults": Sampling(),
    "no setting": NEUTRAL,
    "temperature 0": replace(NEUTRAL, temperature=0),
    "top-k 40, top-p 0.95": replace(NEUTRAL, top_k=40, top_p=0.95),
    "min-p 0.05": replace(NEUTRAL, min_p=0.05),
    "typical 0.9": replace(NEUTRAL, typical_p=0.9),
    "every setting": Sampling(top_k=200, top_p=0.95, min_p=0.01, typical_p=0.9),
}


def steps_of_logits() -> np.ndarray:
    """Return float32 logits [step, V], from spread as at the beginning of a text to peaked as within a word."""
    generator = np.random.default_rng(0)
    spreads = np.linspace(1.5, 4, NUM_STEPS)[:, None]
    return (generator.normal(size=(NUM_STEPS, VOCAB_SIZE)) * spreads).astype(np.float32)


def prompt_of(num_tokens: int) -> list[int]:
    """Return ids of which, as in a text, few come often."""
    return np.minimum(np.random.default_rng(1).zipf(1.3, num_tokens), VOCAB_SIZE - 1).tolist()


def state_of(sampling: Sampling, prompt_ids: list[int]) -> SamplingState:
    return SamplingState(sampling, prompt_ids, vocab_size=VOCAB_SIZE, eos_token_id=0)


def ours(logits: np.ndarray, sampling: Sampling, prompt_ids: list[int]) -> Callable[[], None]:
    """Return one pass over all steps, each of which draws a token and remembers it."""
    state = state_of(sampling, prompt_ids)

    def work() -> None:
        generator = generator_of(0)
        for step_logits in logits:
            state.push(sample(step_logits, state, generator))
        for _ in logits:
            state.pop()

    return work


def processors_of(sampling: Sampling) -> Any:
    """Return what transformers' `generate` makes of these settings."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature not in (0, 1):
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        processors.append(MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p < 1:
        processors.append(TypicalLogitsWarper(sampling.typical_p))
    return processors


def theirs(logits: np.ndarray, sampling: Sampling, prompt_ids: list[int]) -> Callable[[], None]:
    """Return the same pass as transformers makes it: processors, softmax, multinomial, and the token appended."""
    processors, steps = processors_of(sampling), torch.from_numpy(logits)[:, None]
    prompt = torch.tensor([prompt_ids])

    def work() -> None:
        input_ids = prompt
        for step_logits in steps:
            scores = processors(input_ids, step_logits)
            if sampling.temperature == 0:
                token = scores.argmax(-1, keepdim=True)
            else:
                token = torch.multinomial(scores.softmax(-1), 1)
            input_ids = torch.cat([input_ids, token], -1)

    return work


def microseconds(work: Callable[[], None]) -> float:
    """Return the best processor time of a step: other work on the machine only ever slows one down."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds) / NUM_STEPS * 1e6


def largest_difference(logits: np.ndarray, sampling: Sampling, prompt_ids: list[int]) -> float:
    """Return by how much any probability differs from that of transformers, computed in float64."""
    state, processors = state_of(sampling, prompt_ids), processors_of(sampling)
    differences = []
    for step_logits in logits:
        scores = processors(torch.tensor([prompt_ids]), torch.from_numpy(step_logits[None]).double())
        differences.append(np.abs(distribution(step_logits, state) - scores.softmax(-1)[0].numpy()).max())
    return float(max(differences))


def main() -> None:
    """Measure each kind of settings on one thread, and record it."""
    torch.set_num_threads(1)
    print(f"load before the run: {os.getloadavg()}", file=sys.stderr)
    logits, prompt_ids = steps_of_logits(), prompt_of(PROMPT_TOKENS)
    claims, differences = [], {}
    for name, sampling in SETTINGS.items():
        claims.append(
            Claim(
                what=f"draw a token of {VOCAB_SIZE}: {name}",
                value=microseconds(ours(logits, sampling, prompt_ids)),
                unit="us",
                better="lower",
                target=30.0 if sampling == Sampling() else None,
                peer="transformers' processors, one thread",
                peer_value=microseconds(theirs(logits, sampling, prompt_ids)),
            )
        )
        if sampling.temperature:
            differences[name] = largest_difference(logits, sampling, prompt_ids)
    claims.append(
        Claim(
            what=f"the defaults after {LONG_PROMPT_TOKENS} tokens",
            value=microseconds(ours(logits, Sampling(), prompt_of(LONG_PROMPT_TOKENS))),
            unit="us",
            better="lower",
            target=30.0,
            peer="transformers' processors, one thread",
            peer_value=microseconds(theirs(logits, Sampling(), prompt_of(LONG_PROMPT_TOKENS))),
        )
    )
    kept = [int((distribution(row, state_of(Sampling(), prompt_ids)) > 0).sum()) for row in logits]
    details = {
        "largest difference of a probability from transformers'": differences,
        "tokens kept by the defaults": {"fewest": min(kept), "median": int(np.median(kept)), "most": max(kept)},
    }
    print(record("sampling", claims, details).read_text())
    print(f"load after the run: {os.getloadavg()}", file=sys.stderr)


if __name__ == "__main__":
    main()
