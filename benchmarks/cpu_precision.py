"""Claim: INT8 weights, an INT8 cache and four bits on a CPU change a model's bits per byte by next to nothing.

usage: python benchmarks/cpu_precision.py MODEL TEXT [--every N]     (N: of the documents, only the first of every N)

The network computes the same tokens in float32 and in each of the smaller forms, side by side. Bits per byte are those
of `stentor evaluate`. Beside each difference stand its standard error, since the tokens are a sample, and the mean
Kullback-Leibler divergence from float32, which sees the whole distribution and so differs between samples much less.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Iterator

import numpy as np
from record import Claim, record

from stentor.evaluate.text import encode_documents
from stentor.model.measure import bits_per_byte
from stentor.model.weights import read_weights
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork
from stentor.text.sources import read_texts

FORMS = {
    "float32": ("float32", "float32"),
    "int8": ("int8", "float32"),
    "int8, int8 cache": ("int8", "int8"),
    "int4": ("int4", "float32"),
    "int4, int8 cache": ("int4", "int8"),
}
LIMITS = (
    ("int8", "float32", 0.002),
    ("int8, int8 cache", "int8", 0.001),
    ("int4", "float32", 0.05),
    ("int4, int8 cache", "int4", 0.001),
)
"""What a form may add to the bits per byte of another."""


def blocks(
    token_ids: np.ndarray, context_length: int, eos_token_id: int
) -> Iterator[tuple[np.ndarray, range, np.ndarray]]:
    """Yield the inputs, positions and targets of every pass: windows that do not overlap, the first after an EOS."""
    inputs = np.concatenate(([eos_token_id], token_ids[:-1]))
    for window in range(0, len(token_ids), context_length):
        end = min(window + context_length, len(token_ids))
        for start in range(window, end, MAX_TOKENS):
            taken = slice(start, min(start + MAX_TOKENS, end))
            yield inputs[taken], range(start - window, taken.stop - window), token_ids[taken]


def log_probs(network: CpuNetwork, inputs: np.ndarray, positions: range) -> np.ndarray:
    """Return ln p [K, V] in float64."""
    logits = network.logits(inputs.tolist(), positions).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def measure(
    networks: dict[str, CpuNetwork], passes: Iterator[tuple[np.ndarray, range, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return, for each form, -ln p and the divergence from float32 of each token [2, tokens], in nats."""
    found: dict[str, list[np.ndarray]] = {form: [] for form in networks}
    for inputs, positions, targets in passes:
        exact = log_probs(networks["float32"], inputs, positions)
        for form, network in networks.items():
            these = exact if form == "float32" else log_probs(network, inputs, positions)
            divergence = (np.exp(exact) * (exact - these)).sum(axis=1)
            found[form].append(np.stack((-these[np.arange(len(targets)), targets], divergence)))
    return {form: np.concatenate(pieces, axis=1) for form, pieces in found.items()}


def main() -> None:
    """Measure every form on the text, and record it."""
    parser = argparse.ArgumentParser(usage="python benchmarks/cpu_precision.py MODEL TEXT [--every N]")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    weights = read_weights(given.model)
    tokenizer = weights.require_tokenizer()
    encoded = encode_documents(tokenizer, itertools.islice(read_texts(given.text), 0, None, given.every))
    networks = {
        form: CpuNetwork(
            weights.config, weights.arrays, dtype=dtype, cache_dtype=cache_dtype, num_threads=os.cpu_count() or 1
        )
        for form, (dtype, cache_dtype) in FORMS.items()
    }
    passes = blocks(encoded.token_ids.astype(np.int64), weights.config.max_position_embeddings, tokenizer.eos_token_id)
    nats = measure(networks, passes)
    totals = {form: bits_per_byte(float(both[0].sum()), encoded.num_bytes) for form, both in nats.items()}
    claims, errors = [], {}
    for form, peer, limit in LIMITS:
        claims.append(
            Claim(
                what=f"bits per byte that {form} adds to {peer}",
                value=totals[form] - totals[peer],
                unit="bits/byte",
                better="lower",
                target=limit,
            )
        )
        spread = float((nats[form][0] - nats[peer][0]).std()) * math.sqrt(len(encoded.token_ids))
        errors[f"{form} - {peer}"] = bits_per_byte(spread, encoded.num_bytes)
    details = {
        "model": given.model,
        "text": given.text,
        "documents": f"the first of every {given.every}",
        "tokens": len(encoded.token_ids),
        "bytes": encoded.num_bytes,
        "bits per byte": totals,
        "standard error of a difference, bits per byte": errors,
        "divergence from float32, bits per byte": {
            form: bits_per_byte(float(both[1].sum()), encoded.num_bytes) for form, both in nats.items()
        },
    }
    print(record("cpu_precision", claims, details).read_text())


if __name__ == "__main__":
    main()
