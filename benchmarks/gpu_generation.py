"""Claim: on a GPU, text is made several times as fast as by transformers at its best, alone and sixty-four at a time.

usage: python benchmarks/gpu_generation.py MODEL        (a model folder; needs a GPU, and takes some 4 minutes)

The ways take turns, round after round, and medians count: ours, transformers' `generate` with the cache it has by
default, and with its static cache, for which it compiles the pass. All continue one prompt greedily, none stops early,
and the whole call is timed, prompt included. Beside it: what is made at the defaults of sampling, how near both are in
float32, and the command line. A part that fails prints why, and the others go on. `--quick` tries the program itself
out: few tokens, and a CPU will do.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from record import Claim, record
from transformers import AutoModelForCausalLM

from stentor.model.device import pick_device
from stentor.model.weights import read_weights
from stentor.runtime.engine import LanguageModel
from stentor.runtime.open import _in_torch

PROMPT = "The history of the city began long before the first houses were built beside the river, when people who "
QUICK = "--quick" in sys.argv
NEW_TOKENS, ROUNDS, BATCHES = (8, 1, (1, 2)) if QUICK else (256, 5, (1, 64))
LONG_SECONDS = 1.0
"""What takes longer than this is measured twice only."""
LATEST_COMPILATION_SECONDS = 300.0
"""After so long no further pass is compiled for transformers."""
SAMPLED = {"do_sample": True, "temperature": 0.9, "top_p": 0.65, "top_k": 0, "repetition_penalty": 1.15}
GREEDY = {"do_sample": False, "repetition_penalty": 1.0}  # a folder may have other defaults
OURS, DYNAMIC, STATIC, HOST = (
    "stentor",
    "transformers",
    "transformers, static cache, compiled",
    "stentor, logits fetched",
)
BEGUN = time.perf_counter()


def say(text: str) -> None:
    print(f"[{time.perf_counter() - BEGUN:6.1f} s] {text}", file=sys.stderr, flush=True)


class Models:
    """One model, as both have it, in one type."""

    def __init__(self, path: str, dtype: str) -> None:
        self.device = pick_device()
        read = read_weights(path)
        self.ours = LanguageModel(_in_torch(read, self.device, dtype), read.require_tokenizer())
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        self.theirs = loaded.to(self.device).eval()
        self.theirs.generation_config.eos_token_id = None

    def make(self, way: str, batch: int, *, greedy: bool = True) -> list[list[int]]:
        """Return the ids of so many continuations."""
        if way in (OURS, HOST):
            settings = {"temperature": 0, "top_p": 1.0, "repetition_penalty": 1.0} if greedy else {}
            logprobs = 0 if way == HOST else None
            made = self.ours.complete(
                PROMPT, n=batch, max_new_tokens=NEW_TOKENS, ignore_eos=True, logprobs=logprobs, **settings
            )
            return [completion.token_ids for completion in made]
        return self.generate(batch, static=way == STATIC, greedy=greedy)

    def generate(
        self, batch: int, *, static: bool = False, greedy: bool = True, forbidden: list[int] | None = None
    ) -> list[list[int]]:
        """Return what transformers makes; an end of the text does not stop it, unless it is forbidden."""
        ids = torch.tensor([self.ours.tokenizer.encode(PROMPT)] * batch, device=self.device)
        with torch.inference_mode():
            made = self.theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                pad_token_id=0,
                suppress_tokens=forbidden,
                **({"cache_implementation": "static"} if static else {}),
                **(GREEDY if greedy else SAMPLED),
            )
        return made[:, ids.shape[1] :].tolist()


def seconds_of(function: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def rates(models: Models, ways: list[str], batch: int, *, greedy: bool) -> dict[str, float]:
    """Return tokens/s of each way that works, the median of rounds in which they take turns."""
    seconds: dict[str, list[float]] = {}
    for way in ways:
        try:
            if way == STATIC and time.perf_counter() - BEGUN > LATEST_COMPILATION_SECONDS:
                raise TimeoutError("no time is left to compile")
            warming = seconds_of(lambda way=way: models.make(way, batch, greedy=greedy))
            say(f"batch {batch}, {way}: {warming:.2f} s the first time")
            seconds[way] = []
        except Exception:
            traceback.print_exc()
    for turn in range(ROUNDS if greedy else -(-ROUNDS // 2)):
        for way, times in seconds.items():
            if turn < 2 or times[0] < LONG_SECONDS:
                times.append(seconds_of(lambda way=way: models.make(way, batch, greedy=greedy)))
    found = {way: batch * NEW_TOKENS / statistics.median(times) for way, times in seconds.items()}
    say(f"batch {batch}, greedy {greedy}: " + ", ".join(f"{way} {rate:,.0f} tokens/s" for way, rate in found.items()))
    return found


def speed(path: str, details: dict[str, object]) -> Iterator[Claim]:
    """Yield tokens/s in 16 bits beside transformers at its best, and at the defaults of sampling."""
    models = Models(path, "bfloat16")
    for greedy in (True, False):
        for batch in BATCHES:
            ways = [OURS, DYNAMIC, STATIC, HOST] if greedy and models.device.type == "cuda" else [OURS, DYNAMIC]
            found = rates(models, ways, batch, greedy=greedy)
            kind = "greedy" if greedy else "sampled at the defaults"
            details[f"tokens/s, {kind}, {batch} at a time"] = found
            peers = {way: rate for way, rate in found.items() if way not in (OURS, HOST)}
            peer = max(peers, key=peers.__getitem__, default=None)
            yield Claim(
                what=f"bfloat16, {kind}, {batch} at a time",
                value=found[OURS],
                unit="tokens/s",
                better="higher",
                target=peers[peer] if peer else None,
                peer=peer,
                peer_value=peers[peer] if peer else None,
            )


def exactness(path: str, details: dict[str, object]) -> Iterator[Claim]:
    """Yield how near both are in float32: texts, and logits of prompts of different lengths that are read together."""
    models = Models(path, "float32")
    tokenizer = models.ours.tokenizer
    never_ours = [tokenizer.eos_token_id, *range(tokenizer.vocab_size, models.theirs.config.vocab_size)]
    (theirs,) = models.generate(1, forbidden=never_ours)
    differing = sum(mine != theirs for count in BATCHES for mine in models.make(OURS, count))
    yield Claim(what="float32: greedy texts that differ", value=differing, unit="texts", better="lower", target=0)
    generator = np.random.default_rng(0)
    lengths, steps = (3, 40, 129, 300), 6
    texts = [generator.integers(0, models.ours.tokenizer.vocab_size, length + steps).tolist() for length in lengths]
    network = models.ours.network.fresh(len(texts))
    for index, length in enumerate(lengths):
        network.extend(texts[index][:length], 0, sequence=index)
    largest = 0.0
    with torch.inference_mode():
        expected = [models.theirs(torch.tensor([text], device=models.device)).logits[0] for text in texts]
    for step in range(steps):
        places = [length + step for length in lengths]
        tokens = [text[place] for text, place in zip(texts, places, strict=True)]
        found = network.extend_each(tokens, places, list(range(len(texts))))
        for row, place, logits in zip(found, places, expected, strict=True):
            largest = max(largest, float(np.abs(row - logits[place].cpu().numpy()).max()))
    details["largest logit"] = max(float(logits.abs().max()) for logits in expected)
    yield Claim(
        what="float32: largest difference of a logit, texts of different lengths side by side",
        value=largest,
        unit="nats",
        better="lower",
        target=1e-4,
    )


def command(path: str, details: dict[str, object]) -> Iterator[Claim]:
    """Run the command line as anybody would, and keep what it says; nothing is claimed."""
    device = pick_device().type
    options = ["--device", device, *(["--dtype", "bfloat16"] if device != "cpu" else []), "--stats"]
    for n in BATCHES:
        asked = ["generate", PROMPT, "--model", path, "--n", str(n), "--max-new-tokens", str(NEW_TOKENS), *options]
        done = subprocess.run([sys.executable, "-m", "stentor", *asked], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if "tokens/s" in line]
        details[f"stentor generate --n {n}"] = {"code": done.returncode, "said": said[:1]}
        say(f"stentor generate --n {n}: exit {done.returncode}, {done.stdout[:200]!r} {done.stderr[-600:]}")
    yield from ()


def main() -> None:
    path = sys.argv[1]
    sys.argv[1] = "MODEL"
    torch.set_float32_matmul_precision("highest")
    claims: list[Claim] = []
    details: dict[str, object] = {"new_tokens": NEW_TOKENS, "rounds": ROUNDS}
    for part in (exactness, speed, command):
        try:
            for claim in part(path, details):
                say(f"{claim.what}: {claim.value:.6g} {claim.unit} ({claim.peer}: {claim.peer_value})")
                claims.append(claim)
                if not QUICK:
                    record("gpu_generation", claims, details)  # whoever ends the program keeps this
        except Exception:
            traceback.print_exc()
            details[f"{part.__name__} failed"] = traceback.format_exc(limit=1).splitlines()[-1]
    if not QUICK:
        print(record("gpu_generation", claims, details))


if __name__ == "__main__":
    main()
