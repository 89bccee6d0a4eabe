"""Claim: on a CPU, text is made several times as fast as by llama.cpp, and tens of times as fast as by transformers.

usage: python benchmarks/cpu_generation.py MODEL [TEXT]

One text at a time. Every measurement is a process of its own; the engines take turns, round after round, and medians
count. Of a peer the setting that suits it best counts, for each quantity: weights in Q8_0, a cache of float16 or Q8_0,
flash attention or none, at most as many threads as ours. Greedy everywhere; llama.cpp's server times itself. TEXT, if
it is given, is a file or another source of text, on whose beginning bits per byte are compared; llama.cpp's
probabilities are those of exact attention over a cache of float32.
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

from stentor.bench.forms import LLAMA_CPP_DTYPE, prepared
from stentor.bench.measure import OURS, Bench, Result, run_bench
from stentor.bench.setting import FLASH, PLAIN, Setting, Work
from stentor.doctor import machine_facts
from stentor.evaluate.text import encode_documents
from stentor.export.consumer import Question, ask
from stentor.model.measure import bits_per_byte
from stentor.model.quantized import as_float32
from stentor.model.weights import Weights, read_weights
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork
from stentor.text.sources import read_texts
from stentor.tokenizer import Tokenizer

ROUNDS, THREADS = 5, (1, 2)
SCORED_TOKENS = 2000
"""At least so many, in whole documents: llama.cpp's server needs a request for each."""
LIMITS_MS = {(1, 128): (0.30, 0.20), (2, 128): (0.18, 0.105), (1, 900): (None, None), (2, 900): (0.35, None)}
"""For threads and position: what a token may take at most, and what it should take."""
TIMES_TRANSFORMERS = 40.0
LLAMA_CPP = ("xllamacpp", "llama_cpp")
OUR_KINDS = {
    "stentor, INT8, cache of INT8": ("int8", "int8"),
    "stentor, float32": ("float32", "float32"),
}
PEER = "llama.cpp, Q8_0"
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


def best(
    bench: Bench, engines: tuple[str, ...], seconds: Callable[[Result], float], most_threads: int = max(THREADS)
) -> Result | None:
    """Return the result of the setting of some engines that is the fastest; None where none was measured."""
    results = [
        result
        for result in bench.results
        if result.setting.engine in engines and result.setting.num_threads <= most_threads
    ]
    return min(results, key=seconds, default=None)


def ours(bench: Bench, num_threads: int) -> Result:
    return next(result for result in bench.results if result.setting == replace(INT8, num_threads=num_threads))


def described(result: Result | None) -> str | None:
    return result and f"{result.setting.name}, threads: {result.setting.num_threads}"


def speed_claims(bench: Bench) -> Iterator[Claim]:
    """Yield what a token takes, beside llama.cpp at its best, and how fast prompts are read."""
    for (num_threads, position), (limit, _) in LIMITS_MS.items():
        result = ours(bench, num_threads)

        def seconds(result: Result, position: int = position) -> float:
            return result.measured.decode_seconds[position]

        peer = best(bench, LLAMA_CPP, seconds, num_threads)
        yield Claim(
            what=f"a token at position {position}, threads: {num_threads}",
            value=1e3 * seconds(result),
            unit="ms",
            better="lower",
            target=limit,
            peer=described(peer),
            peer_value=peer and 1e3 * seconds(peer),
        )
    for num_threads, length in itertools.product(THREADS, Work().prompt_lengths):
        result = ours(bench, num_threads)

        def seconds_of_prompt(result: Result, length: int = length) -> float:
            return result.measured.prefill_seconds[length]

        peer = best(bench, LLAMA_CPP, seconds_of_prompt, num_threads)
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
            target=TIMES_TRANSFORMERS,
            peer=f"{described(peer)}, ms a token",
            peer_value=1e3 * seconds(peer),
        )


def quality_claims(model: Weights, text: str) -> Iterator[Claim]:
    """Yield bits per byte of the first documents of a text, in INT8 and in llama.cpp's Q8_0."""
    tokenizer, documents, num_tokens = model.require_tokenizer(), [], 0
    for document in read_texts(text):
        documents.append(document)
        num_tokens += len(tokenizer.encode(document)) + 1
        if num_tokens >= SCORED_TOKENS:
            break
    encoded, length = encode_documents(tokenizer, documents), model.config.max_position_embeddings - 1
    targets = encoded.token_ids.astype(int)
    inputs = np.concatenate(([tokenizer.eos_token_id], targets[:-1]))
    windows = [inputs[start : start + length].tolist() for start in range(0, len(inputs), length)]
    rows = {name: np.concatenate(our_logits(model, kind, windows)) for name, kind in OUR_KINDS.items()}
    with prepared(model, ["xllamacpp"]) as forms:
        if path := forms.paths.get("xllamacpp"):
            rows[PEER] = np.concatenate([llama_cpp_logits(path, window, tokenizer) for window in windows])
    found = {name: bits_per_byte(nats(logits, targets), encoded.num_bytes) for name, logits in rows.items()}
    for name in OUR_KINDS:
        yield Claim(
            what=f"{name}, {len(targets):,} tokens",
            value=found[name],
            unit="bits per byte",
            better="lower",
            peer=PEER if PEER in found else None,
            peer_value=found.get(PEER),
        )


def our_logits(model: Weights, kind: tuple[str, str], windows: list[list[int]]) -> list[NDArray[np.float32]]:
    """Return the logits [T, V] after every token of each window, as our engine computes them."""
    tensors = {name: as_float32(array) for name, array in model.arrays.items()}
    network = CpuNetwork(model.config, tensors, dtype=kind[0], cache_dtype=kind[1])
    return [
        network.logits(window[start : start + MAX_TOKENS], range(start, min(start + MAX_TOKENS, len(window)))).copy()
        for window in windows
        for start in range(0, len(window), MAX_TOKENS)
    ]


def llama_cpp_logits(path: str, window: list[int], tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Return the logits [T, V] after every token of a window, as llama.cpp computes them."""
    plain = next(token_id for token_id in range(tokenizer.vocab_size) if tokenizer.token_bytes(token_id).isalnum())
    question = Question(path=path, strings=[], window=window, positions=list(range(len(window))), plain_token=plain)
    return ask("stentor.export.in_llama_cpp", question, consumer="llama.cpp").logits_PV


def nats(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return the sum of -ln p of the targets."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]).sum())


def main() -> None:
    """Measure on this machine, and record it."""
    print(f"load before the run: {os.getloadavg()}", file=sys.stderr)
    model = read_weights(sys.argv[1])
    bench = measure(model)
    claims = [*speed_claims(bench), *claim_over_transformers(bench)]
    claims += [claim for text in sys.argv[2:3] for claim in quality_claims(model, text)]
    details = {
        "machine": machine_facts(),
        "num_parameters": model.config.num_parameters,
        "hoped for, ms": {f"position {p}, threads: {t}": hoped for (t, p), (_, hoped) in LIMITS_MS.items() if hoped},
        "load after the run": os.getloadavg(),
        **bench.to_dict(),
    }
    print(record("cpu_generation", claims, details).read_text())


if __name__ == "__main__":
    main()
