"""Both networks keep the protocol: the same numbers, whatever is read at once, side by side, or again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import on_cpu, random_llama

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.runtime.cpu import MAX_TOKENS
from stentor.runtime.dtypes import CACHE_DTYPES, DTYPES
from stentor.runtime.network import CachedNetwork
from stentor.runtime.torch_network import TorchNetwork

CONFIG = ModelConfig(
    vocab_size=201,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=150,
)
IDS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, 150).tolist()
KINDS = ["torch", *(f"{dtype}, {cache_dtype}" for dtype in DTYPES for cache_dtype in CACHE_DTYPES)]


def make(kind: str, config: ModelConfig = CONFIG) -> CachedNetwork:
    llama = random_llama(config)
    if kind == "torch":
        return TorchNetwork(llama)
    dtype, cache_dtype = kind.split(", ")
    return on_cpu(llama, dtype=dtype, cache_dtype=cache_dtype, num_threads=2)


@pytest.fixture(scope="module", params=KINDS)
def network(request) -> CachedNetwork:
    return make(request.param)


def assert_same(network: CachedNetwork, found: np.ndarray, expected: np.ndarray) -> None:
    """Check for the same bits; torch's depend on the size of what is read."""
    if isinstance(network, TorchNetwork):
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    else:
        assert np.array_equal(found, expected)


def all_logits(network: CachedNetwork) -> np.ndarray:
    return network.fresh().extend(IDS, 0, all_scored=True).copy()


@given(sizes=st.lists(st.integers(1, 2 * MAX_TOKENS + 5), max_size=5))
@settings(max_examples=6)
def test_a_text_is_read_in_pieces_of_any_length(network, sizes):
    expected, reader, start = all_logits(network), network.fresh(), 0
    for size in [*sizes, len(IDS)]:
        piece = IDS[start : start + size]
        if piece:
            assert_same(network, reader.extend(piece, start, all_scored=True), expected[start : start + len(piece)])
        start += len(piece)


def test_the_last_logits_alone_are_the_last_of_all(network):
    (last_V,) = network.fresh().extend(IDS, 0)
    assert_same(network, last_V, all_logits(network)[-1])


def test_going_back_forgets_what_came_after(network):
    expected, reader = all_logits(network), network.fresh()
    reader.extend(IDS[:100], 0)
    reader.extend([7] * 30, 60)
    assert_same(network, reader.extend(IDS[60:], 60, all_scored=True), expected[60:])


def test_sequences_that_share_a_beginning_go_on_as_if_alone(network):
    reader, length = network.fresh(3), 37
    reader.extend(IDS[:length], 0)
    reader.share(length)
    texts = [IDS[:length] + np.random.default_rng(seed).integers(0, 201, 20).tolist() for seed in range(3)]
    alone = [network.fresh().extend(text, 0, all_scored=True).copy() for text in texts]
    for position in range(length, length + 20):
        going_on = [0, 1, 2] if position < length + 9 else [2, 0]  # the second has ended
        rows = reader.extend_each([texts[index][position] for index in going_on], [position] * len(going_on), going_on)
        for row_V, index in zip(rows, going_on, strict=True):
            assert_same(network, row_V, alone[index][position])


def test_a_fresh_network_has_read_nothing_and_disturbs_nobody(network):
    first, second = network.fresh(), network.fresh()
    first.extend(IDS[:20], 0)
    second.extend(IDS[50:90], 0)
    assert_same(network, first.extend(IDS[20:40], 20, all_scored=True), all_logits(network)[20:40])


def test_logits_may_be_written_to(network):
    reader = network.fresh()
    reader.extend(IDS[:5], 0)[:] = -np.inf
    assert_same(network, reader.extend(IDS[5:6], 5), all_logits(network)[5:6])


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_both_compute_the_same(carrier, tied):
    config = dataclasses.replace(CONFIG, carrier=carrier, tie_word_embeddings=tied)
    ours, theirs = (all_logits(make(kind, config)) for kind in ("float32, float32", "torch"))
    assert np.abs(ours - theirs).max() < 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("token_id", [-1, 201, 10**9])
def test_unknown_tokens_are_refused(network, token_id):
    said = f"the token id {token_id} is outside the model's vocabulary of 201 tokens"
    with pytest.raises(UserError, match=said):
        network.fresh().extend([1, token_id, 2], 0)


@pytest.mark.parametrize(("count", "start", "position"), [(151, 0, 150), (2, 149, 150), (1, -1, -1)])
def test_positions_beyond_the_context_are_refused(network, count, start, position):
    with pytest.raises(UserError, match=f"position {position} is outside the model's context of 150 tokens"):
        network.fresh().extend([1] * count, start)


def test_what_is_refused_one_by_one(network):
    reader = network.fresh(2)
    with pytest.raises(UserError, match="the token id 201"):
        reader.extend_each([5, 201], [0, 0], [0, 1])
    with pytest.raises(UserError, match="position 150"):
        reader.extend_each([5, 6], [0, 150], [0, 1])
