"""The CPU's network is the one that torch computes, whatever the block, the threads, the sequences and the shape."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.model.config import ModelConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.runtime.cpu import MAX_TOKENS, CpuNetwork
from stentor.runtime.workers import Breaks

BASE = ModelConfig(
    vocab_size=301,
    hidden_size=48,
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=12,
    max_position_embeddings=90,
)
SHAPES = {
    "llama": {},
    "qwen3": {"carrier": "qwen3"},
    "grouped heads": {"num_key_value_heads": 2},
    "one key head": {"num_key_value_heads": 1, "carrier": "qwen3"},
    "three parts": {"num_attention_heads": 6, "num_key_value_heads": 3},
    "untied": {"tie_word_embeddings": False},
    "even sizes": {"hidden_size": 64, "head_dim": 32, "intermediate_size": 256, "vocab_size": 512},
}
DTYPES = [("float32", "float32"), ("int8", "float32"), ("int8", "int8"), ("float32", "int8"), ("int4", "int8")]
each_dtype = pytest.mark.parametrize(("dtype", "cache_dtype"), DTYPES)


def model_of(config: ModelConfig) -> Llama:
    model = Llama(config)
    initialize(model, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            else:
                parameter.mul_(4)
    return model.eval()


def tensors_of(model: Llama) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in to_hugging_face(model.config, model.state_dict()).items()}


def network(config: ModelConfig, dtype: str = "float32", cache_dtype: str = "float32", **more) -> CpuNetwork:
    return CpuNetwork(config, tensors_of(model_of(config)), dtype=dtype, cache_dtype=cache_dtype, **more)


def ids_of(config: ModelConfig, count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, count).tolist()


def in_blocks(made: CpuNetwork, ids: list[int], sizes: list[int]) -> np.ndarray:
    """Return the logits after each token, read in blocks of these sizes, the last one as long as it takes."""
    rows, start = [], 0
    for size in [*sizes, *[MAX_TOKENS] * len(ids)]:
        block = ids[start : start + size]
        if block:
            rows.append(made.logits(block, range(start, start + len(block))).copy())
        start += size
    return np.concatenate(rows)


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_float32_logits_are_those_of_torch(changes):
    config = dataclasses.replace(BASE, **changes)
    model, ids = model_of(config), ids_of(config, 70)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].numpy()
    found = in_blocks(CpuNetwork(config, tensors_of(model)), ids, [40, 1, 1, 5, 1])
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize(("dtype", "cache_dtype"), DTYPES[1:])
def test_bytes_are_near(changes, dtype, cache_dtype):
    config = dataclasses.replace(BASE, **changes)
    ids = ids_of(config, 40)
    exact, near = (in_blocks(network(config, *kind), ids, []) for kind in (DTYPES[0], (dtype, cache_dtype)))
    correlation = np.corrcoef(exact.ravel(), near.ravel())[0, 1]
    assert correlation > (0.9 if dtype == "int4" else 0.99)


@each_dtype
@given(sizes=st.lists(st.integers(1, 30), max_size=6))
@settings(max_examples=8)
def test_a_token_has_the_same_bits_in_a_block_of_any_size(dtype, cache_dtype, sizes):
    """What a draft is verified by, many tokens at a time, is what would have been made one at a time."""
    ids = ids_of(BASE, 60)
    alone = in_blocks(network(BASE, dtype, cache_dtype), ids, [1] * 60)
    assert np.array_equal(in_blocks(network(BASE, dtype, cache_dtype), ids, sizes), alone)


@each_dtype
@pytest.mark.parametrize("num_threads", [2, 3, 4, 9])
def test_threads_change_no_bit(dtype, cache_dtype, num_threads):
    ids = ids_of(BASE, 50)
    alone = in_blocks(network(BASE, dtype, cache_dtype), ids, [20, 1, 1])
    made = network(BASE, dtype, cache_dtype, num_threads=num_threads)
    assert made.num_threads == min(num_threads, 4)
    assert np.array_equal(in_blocks(made, ids, [20, 1, 1]), alone)


def test_a_break_of_the_workers_changes_no_bit(monkeypatch):
    ids, turns = ids_of(BASE, 50), itertools.cycle([False, True, True])
    monkeypatch.setattr(Breaks, "take", lambda self: next(turns))
    alone = in_blocks(network(BASE), ids, [20, 1, 1])
    assert np.array_equal(in_blocks(network(BASE, num_threads=2), ids, [20, 1, 1]), alone)


def test_the_workers_have_a_break_after_a_long_wait(monkeypatch):
    made, shared, given = network(BASE, num_threads=2), [], ids_of(BASE, 40)
    made.extend(given[:1], 0)
    post = made._workers.post
    monkeypatch.setattr(made._workers, "post", lambda *arguments: shared.append(arguments) or post(*arguments))
    made._shared._arrivals[1] += 1  # as if the first thread had waited long during the next pass
    for position in range(1, 20):
        made.extend(given[position : position + 1], position)
    assert len(shared) < 19


@each_dtype
def test_sequences_side_by_side_are_as_if_alone(dtype, cache_dtype):
    texts = [ids_of(BASE, 12, seed) for seed in range(3)]
    together = network(BASE, dtype, cache_dtype, num_sequences=3)
    for position in range(12):
        tokens = [text[position] for text in texts]
        rows = together.logits(tokens, [position] * 3, [0, 1, 2]).copy()
        for sequence, text in enumerate(texts):
            alone = network(BASE, dtype, cache_dtype)
            expected = in_blocks(alone, text[: position + 1], [])[-1]
            assert np.array_equal(rows[sequence], expected), (position, sequence)


@each_dtype
def test_going_back_leaves_no_trace(dtype, cache_dtype):
    """A draft that is refused was in the cache; what is written over it is all that counts."""
    ids, draft = ids_of(BASE, 40), ids_of(BASE, 9, seed=5)
    made = network(BASE, dtype, cache_dtype)
    in_blocks(made, ids[:30], [])
    made.logits(draft, range(30, 39))
    after = made.logits(ids[30:40], range(30, 40)).copy()
    assert np.array_equal(after, in_blocks(network(BASE, dtype, cache_dtype), ids, [30])[30:])


def test_logits_are_made_from_where_they_are_wanted():
    ids, made = ids_of(BASE, 20), network(BASE)
    everything = made.logits(ids, range(20)).copy()
    assert everything.shape == (20, BASE.vocab_size)
    assert np.array_equal(made.logits(ids, range(20), first_scored=19), everything[19:])


def test_the_whole_context_can_be_read():
    ids, made = ids_of(BASE, BASE.max_position_embeddings), network(BASE)
    model = model_of(BASE)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0, -1].numpy()
    assert np.abs(in_blocks(made, ids, [])[-1] - expected).max() < 1e-4


def test_workers_sleep_between_requests_and_end_with_the_network():
    others, made = set(threading.enumerate()), network(BASE, num_threads=2)
    before = made.logits([1], [0]).copy()
    workers = set(threading.enumerate()) - others
    assert workers
    for _ in range(3):
        deadline = threading.Event()
        deadline.wait(0.05)  # long enough that a worker has lost its patience
        assert np.array_equal(made.logits([1], [0]), before)
    del made
    gc.collect()
    assert not any(thread.is_alive() for thread in workers)
