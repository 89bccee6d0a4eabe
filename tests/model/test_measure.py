"""Bits per byte against a slow twin that scores one token at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.fake_quant import fake_quantize
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.measure import Evaluation, bits_per_byte, measure, stream_nats, summed_nats
from stentor.model.numerics import Numerics
from stentor.model.scorer import TorchScorer

EOS = 0
CONFIG = ModelConfig(
    vocab_size=31,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=8,
)


@pytest.fixture(scope="module")
def model() -> Llama:
    built = Llama(CONFIG).eval()
    initialize(built, seed=1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(5)
    return built


def slow_nats(model: Llama, token_ids: list[int]) -> list[float]:
    """One forward pass per token, each seeing only what lies in its window before it."""
    stream, nats = [EOS, *token_ids], []
    for place, target in enumerate(token_ids):
        window_start = place // CONFIG.max_position_embeddings * CONFIG.max_position_embeddings
        with torch.no_grad():
            logits_V = model(torch.tensor([stream[window_start : place + 1]]))[0, -1].double()
        nats.append(-float(logits_V.log_softmax(-1)[target]))
    return nats


@pytest.mark.parametrize("num_tokens", [1, 7, 8, 9, 16, 37])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_token_is_scored_once(model, num_tokens, batch_size):
    token_ids = np.random.default_rng(num_tokens).integers(0, 31, num_tokens).astype(np.uint16)
    expected = slow_nats(model, token_ids.tolist())
    got = np.concatenate(list(stream_nats(TorchScorer(model), token_ids, eos_token_id=EOS, batch_size=batch_size)))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    result = measure(TorchScorer(model), token_ids, num_bytes=50, eos_token_id=EOS, batch_size=batch_size)
    assert result.num_tokens == num_tokens
    assert result.loss_nats == pytest.approx(sum(expected) / num_tokens, abs=1e-5)
    assert result.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / 50, abs=1e-5)
    assert result.perplexity == pytest.approx(math.exp(result.loss_nats))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_it_scores_as_the_model_computes(model, dtype, tolerance):
    token_ids = np.random.default_rng(0).integers(0, 31, 37)
    half = Llama(CONFIG).eval()
    half.load_state_dict(model.state_dict())
    half.numerics = Numerics(compute_dtype=dtype)
    precise = measure(TorchScorer(model), token_ids, num_bytes=50, eos_token_id=EOS).loss_nats
    rounded = measure(TorchScorer(half), token_ids, num_bytes=50, eos_token_id=EOS).loss_nats
    assert rounded == pytest.approx(precise, rel=tolerance)
    assert rounded != precise


def test_a_model_that_rounds_to_int8_is_scored_rounded(model):
    token_ids = np.random.default_rng(0).integers(0, 31, 37)
    rounding, rounded = Llama(CONFIG).eval(), Llama(CONFIG).eval()
    for twin in (rounding, rounded):
        twin.load_state_dict(model.state_dict())
    rounding.numerics = Numerics(fake_quantizes=True)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim == 3:
                parameter.copy_(fake_quantize(parameter))
    scores = [
        measure(TorchScorer(m), token_ids, num_bytes=50, eos_token_id=EOS).loss_nats for m in (model, rounding, rounded)
    ]
    assert scores[1] == scores[2] != scores[0]


def test_progress_ends_at_the_whole(model):
    seen = []
    token_ids = np.arange(20, dtype=np.uint16)
    measure(
        TorchScorer(model),
        token_ids,
        num_bytes=9,
        eos_token_id=EOS,
        batch_size=1,
        on_progress=lambda *p: seen.append(p),
    )
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_a_uniform_model_needs_log2_of_its_vocabulary():
    model = Llama(CONFIG).eval()
    token_ids = np.arange(30, dtype=np.uint16)
    result = measure(TorchScorer(model), token_ids, num_bytes=30, eos_token_id=EOS)
    assert result.bits_per_byte == pytest.approx(math.log2(31), abs=1e-5)


@given(st.floats(0, 1e6), st.integers(1, 10**6))
def test_bits_per_byte_is_nats_over_ln2_bytes(total_nats, num_bytes):
    assert bits_per_byte(total_nats, num_bytes) * num_bytes * math.log(2) == pytest.approx(total_nats)


def test_no_bytes_have_no_bits():
    with pytest.raises(ValueError, match="at least one byte"):
        bits_per_byte(1.0, 0)


def test_a_hopeless_loss_has_infinite_perplexity():
    assert Evaluation.from_total(1e6, num_tokens=1000, num_bytes=10).perplexity == math.inf


@pytest.mark.parametrize("total_nats", [math.nan, math.inf])
def test_a_sum_that_is_no_number_is_refused(total_nats):
    with pytest.raises(UserError, match="have left the range of numbers"):
        Evaluation.from_total(total_nats, num_tokens=1, num_bytes=1)


def test_parts_of_whole_windows_sum_to_the_whole(model):
    ids = np.arange(1, 150) % model.config.vocab_size
    whole = summed_nats(TorchScorer(model), ids, eos_token_id=EOS)
    span = 2 * model.config.max_position_embeddings
    parts = [
        summed_nats(TorchScorer(model), ids[start : start + span], eos_token_id=int(ids[start - 1]) if start else EOS)
        for start in range(0, len(ids), span)
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-6)


def test_fields_are_named_as_documented():
    assert list(Evaluation.from_total(1.0, num_tokens=1, num_bytes=1).to_dict()) == [
        "loss_nats",
        "perplexity",
        "bits_per_byte",
        "num_tokens",
        "num_bytes",
        "num_lossy_documents",
        "num_lost_bytes",
    ]


def test_a_loss_that_is_no_number_is_refused():
    broken = Llama(CONFIG).eval()
    initialize(broken, seed=1)
    with torch.no_grad():
        broken.embedding_VD.fill_(float("inf"))
    with pytest.raises(UserError, match="the model's loss is nan") as caught:
        measure(TorchScorer(broken), np.array([1, 2, 3, EOS]), num_bytes=3, eos_token_id=EOS)
    assert "earlier checkpoint" in caught.value.fix
