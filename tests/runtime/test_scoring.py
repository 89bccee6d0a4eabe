"""Windows scored on the CPU's engine: the definition's numbers, whatever the threads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import on_cpu, random_llama

from stentor.model.labels import IGNORED_LABEL
from stentor.model.measure import measure, stream_nats
from stentor.model.scorer import TorchScorer
from stentor.runtime.scoring import score_windows, target_nats
from stentor.runtime.torch_network import TorchNetwork


@pytest.fixture(scope="module")
def llama(tiny_config):
    return random_llama(dataclasses.replace(tiny_config, max_position_embeddings=90))


def stream(num_tokens: int) -> np.ndarray:
    return np.random.default_rng(num_tokens).integers(0, 384, num_tokens).astype(np.uint16)


@given(st.integers(1, 5), st.integers(2, 40), st.floats(0.01, 80), st.integers(0, 2**32 - 1))
def test_nats_are_those_of_the_formula(rows, vocab_size, size, seed):
    random = np.random.default_rng(seed)
    logits_KV = (random.standard_normal((rows, vocab_size)) * size).astype(np.float32)
    targets_K = random.integers(0, vocab_size, rows)
    p_KV = np.exp(logits_KV.astype(np.float64) - logits_KV.max(axis=1, keepdims=True))
    p_K = (p_KV / p_KV.sum(axis=1, keepdims=True))[np.arange(rows), targets_K]
    assert target_nats(logits_KV, targets_K) == pytest.approx(-np.log(p_K), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("num_tokens", [1, 64, 65, 90, 91, 400])
def test_a_stream_has_the_nats_that_torch_gives_it(llama, num_tokens):
    ids, options = stream(num_tokens), {"eos_token_id": 0, "batch_size": 3}
    ours, theirs = (
        np.concatenate(list(stream_nats(network, ids, **options))) for network in (on_cpu(llama), TorchScorer(llama))
    )
    assert len(ours) == num_tokens
    assert ours == pytest.approx(theirs, abs=1e-4)
    evaluations = [
        measure(network, ids, num_bytes=3 * num_tokens, eos_token_id=0)
        for network in (on_cpu(llama), TorchScorer(llama))
    ]
    assert evaluations[0].bits_per_byte == pytest.approx(evaluations[1].bits_per_byte, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_threads_change_no_bit(llama, dtype):
    ids, network = stream(500), on_cpu(llama, dtype=dtype, num_threads=1, max_threads=3)
    alone, several = on_cpu(llama, dtype=dtype), on_cpu(llama, dtype=dtype, num_threads=2)
    nats = [np.concatenate(list(stream_nats(made, ids, eos_token_id=0))) for made in (alone, several, network)]
    assert np.array_equal(nats[0], nats[1])
    assert np.array_equal(nats[0], nats[2])


def test_what_is_ignored_is_not_read(llama):
    """A short last window costs what it holds, not a whole one."""

    class Counting:
        config, read = llama.config, 0

        def extend(self, token_ids, start, *, all_scored=False, sequence=0):
            self.read += len(token_ids)
            return np.zeros((len(token_ids), 384), dtype=np.float32)

    network, targets = Counting(), np.full((2, 90), IGNORED_LABEL)
    targets[0], targets[1, :7] = 5, 5
    nats = score_windows([network], np.ones((2, 90), dtype=np.int64), targets)  # type: ignore[list-item]
    assert network.read == 97
    assert nats[0] == pytest.approx(np.log(384))
    assert nats[1, :7] == pytest.approx(np.log(384))
    assert not nats[1, 7:].any()


def test_scoring_leaves_what_a_network_remembers(llama):
    for network in (on_cpu(llama), TorchNetwork(llama)):
        network.extend([1, 2, 3], 0)
        expected = network.extend([4], 3).copy()
        network.extend([1, 2, 3], 0)
        list(stream_nats(network, stream(200), eos_token_id=0))
        assert np.array_equal(network.extend([4], 3), expected)


def test_what_fails_in_a_thread_is_said(llama):
    with pytest.raises(Exception, match="the token id 9999"):
        list(stream_nats(on_cpu(llama, max_threads=2), np.full(300, 9999), eos_token_id=0))
