"""Claim: on a CPU, text is made several times as fast as by llama.cpp, and tens of times as fast as by transformers.

usage: python benchmarks/cpu_generation.py MODEL [TEXT]

One text at a time. Every measurement is a process of its own; the engines take turns, round after round, and medians
count. Of a peer the setting that suits it best counts, for each quantity: weights in Q8_0, a cache of float16 or Q8_0,
flash attention or none, one thread or two. Greedy everywhere; llama.cpp's server times itself. TEXT, if it is given,
is a file or another source of text, on whose beginning bits per byte are compared; llama.cpp's probabilities are those
of exact attention over a cache of float32.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from record import Claim, record

from stentor.bench.floor import cache_bytes
from stentor.bench.forms import LLAMA_CPP_DTYPE, prepared
from stentor.bench.measure import OURS, Bench, Result, run_bench
from stentor.bench.setting import FLASH, PLAIN, Setting, Work
from stentor.doctor import machine_facts
from stentor.evaluate.text import encode_documents
from stentor.export.consumer import Question, ask
from stentor.export.parity import compare_logits
from stentor.model.measure import bits_per_byte
from stentor.model.quantized import as_float32
from stentor.model.weights import Weights, read_weights
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork
from stentor.text.sources import read_texts

ROUNDS, THREADS = 5, (1, 2)
SCORED_WINDOWS = 2
"""Windows of the context in which every token is scored; llama.cpp's server needs a request for each token."""
LLAMA_CPP = ("xllamacpp", "llama_cpp")
INT8 = Setting(engine=OURS, dtype="int8", cache_dtype="int8")
PEERS = (
    *(
        Setting(engine=engine, dtype=LLAMA_CPP_DTYPE, cache_dtype=cache_dtype, attention=attention)
        for engine in ("xllamacpp", "llama_cpp")
        for attention, cache_dtype in ((FLASH, "float16"), (FLASH, "q8_0"), (PLAIN, "float16"))
    ),
    *(
        Setting(engine="transformers", dtype="float32", cache_dtype="float32", attention=attention)
        for attention in ("sdpa", "eager")
    ),
)


def measure(model: Weights) -> Bench:
    """Measure ours and the peers, all taking turns."""
    settings = [replace(setting, num_threads=count) for setting in (INT8, *PEERS) for count in THREADS]
    return run_bench(model, settings, Work(), num_rounds=ROUNDS, say=lambda text: print(text, file=sys.stderr))


def best(bench: Bench, engines: tuple[str, ...], seconds: Callable[[Result], float]) -> Result | None:
    """Return the result of the setting of some engines that is the fastest; None where none was measured."""
    results = [result for result in bench.results if result.setting.engine in engines]
    return min(results, key=seconds, default=None)


def ours(bench: Bench, num_threads: int) -> Result:
    return next(
        result for result in bench.results if result.setting == replace(INT8, num_threads=num_threads)
    )


def described(result: Result | None) -> str | None:
    return result and f"{result.setting.name}, threads: {result.setting.num_threads}"


def speed_claims(bench: Bench) -> Iterator[Claim]:
    """Yield what a token takes, beside llama.cpp at its best, and how fast prompts are read."""
    for num_threads, position, target in ((1, 128, 0.20), (2, 128, 0.105), (1, 900, None), (2, 900, 0.35)):
        result = ours(bench, num_threads)

        def seconds(result: Result, position: int = position) -> float:
            return result.measured.decode_seconds[position]

        peer = best(bench, LLAMA_CPP, seconds)
        yield Claim(
            what=f"a token at position {position}, threads: {num_threads}",
            value=1e3 * seconds(result),
            unit="ms",
            better="lower",
            target=target,
            peer=described(peer),
            peer_value=peer and 1e3 * seconds(peer),
        )
    for num_threads, length in itertools.product(THREADS, Work().prompt_lengths):
        result = ours(bench, num_threads)

        def seconds_of_prompt(result: Result, length: int = length) -> float:
            return result.measured.prefill_seconds[length]

        peer = best(bench, LLAMA_CPP, seconds_of_prompt)
        yield Claim(
            what=f"a prompt of {length} tokens, threads: {num_threads}",
            value=length / seconds_of_prompt(result),
            unit="tokens/s",
            better="higher",
            target=peer and length / seconds_of_prompt(peer),
            peer=described(peer),
            peer_value=peer and length / seconds_of_prompt(peer),
        )


def claim_over_transformers(bench: Bench, position: int = 128) -> Iterator[Claim]:
    """Yield by how many times ours makes a token faster than `generate`, each with the threads that suit it best."""

    def seconds(result: Result) -> float:
        return result.measured.decode_seconds[position]

    mine, peer = best(bench, (OURS,), seconds), best(bench, ("transformers",), seconds)
    if mine and peer:
        yield Claim(
            what=f"times transformers' generate in float32, at position {position}",
            value=seconds(peer) / seconds(mine),
            unit="x",
            better="higher",
            target=40.0,
            peer=f"{described(peer)}, ms a token",
            peer_value=1e3 * seconds(peer),
        )


def quality_claims(model: Weights, text: str) -> Iterator[Claim]:
    """Yield bits per byte of the beginning of a text, in INT8 and in llama.cpp's Q8_0."""
    tokenizer = model.require_tokenizer()
    length = model.config.max_position_embeddings - 1
    documents = itertools.islice(read_texts(text), 64)
    ids = encode_documents(tokenizer, documents).token_ids[: SCORED_WINDOWS * length].astype(int).tolist()
    windows = [ids[start : start + length] for start in range(0, len(ids), length)]
    num_bytes = sum(len(tokenizer.token_bytes(token_id)) for window in windows for token_id in window[1:])
    rows = {name: [logits(model, window, *kind) for window in windows] for name, kind in OUR_KINDS.items()}
    with prepared(model, ["xllamacpp"]) as forms:
        if path := forms.paths.get("xllamacpp"):
            rows["llama.cpp, Q8_0"] = [llama_cpp_logits(path, window, tokenizer.bos_token_id) for window in windows]
    found = {
        name: bits_per_byte(sum(map(nats, windows, all_rows)), num_bytes) for name, all_rows in rows.items()
    }
