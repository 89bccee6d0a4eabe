"""Each loop equals its plain twin at any shape, gives the same bits for any number of threads, and hides no NaN."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.model.config import ModelConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.loss import shifted_loss
from stentor.model.numerics import Numerics
from stentor.model.ops import (
    IGNORED_LABEL,
    Way,
    add_rms_norm,
    attend_causally,
    cross_entropy,
    linear_cross_entropy,
    swiglu,
    turn_heads,
)

dtypes = st.sampled_from([torch.float32, torch.bfloat16])
sizes = st.integers(1, 70)


def drawn(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def results(function, tensors, way) -> list[torch.Tensor]:
    """Return results and gradients; the plain way computes in float32 whatever the type, which is exact enough."""
    inputs = [(x.float() if way is Way.PLAIN else x.clone()).requires_grad_() for x in tensors]
    outputs = function(*inputs, way)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    weights = [torch.linspace(-1, 1, max(2, x.numel()))[: x.numel()].view(x.shape) for x in outputs]
    torch.stack([(x.float() * w).sum() for x, w in zip(outputs, weights, strict=True)]).sum().backward()
    found = [*outputs, *(x.grad for x in inputs)]
    return [x.detach().float() for x in found if x is not None]


def check(function, *tensors: torch.Tensor, smallest: float = 0.1) -> None:
    """Compare values and gradients with the plain way, by the largest of each or by `smallest`."""
    found, expected = (results(function, tensors, way) for way in (Way.CPU, Way.PLAIN))
    tolerance = 3e-5 if tensors[0].dtype == torch.float32 else 3e-2
    for ours, exact in zip(found, expected, strict=True):
        assert ours.shape == exact.shape
        assert (ours - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=smallest)


@settings(max_examples=15)
@given(dtypes, sizes, sizes, st.booleans(), st.integers(0, 9))
def test_add_rms_norm(dtype, tokens, width, adds, seed):
    def function(x, gain, delta, way):
        return add_rms_norm(x, delta if adds else None, gain.float(), eps=1e-5, dtype=x.dtype, way=way)

    x = drawn(2, tokens, width, dtype=dtype, seed=seed)
    check(function, x, drawn(width, dtype=dtype, seed=seed + 1), drawn(2, tokens, width, dtype=dtype, seed=seed + 2))


@settings(max_examples=15)
@given(dtypes, sizes, sizes, st.integers(0, 9))
def test_swiglu(dtype, tokens, width, seed):
    check(lambda x, way: swiglu(x, way=way), 4 * drawn(2, tokens, 2 * width, dtype=dtype, seed=seed))


@settings(max_examples=15)
@given(dtypes, sizes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_turn_heads(dtype, tokens, keys, shared, half, normalises, seed):
    angles = drawn(tokens, half, dtype=torch.float32, seed=seed).repeat(1, 2)

    def function(qkv, q_gain, k_gain, way):
        gains = (q_gain.float(), k_gain.float()) if normalises else None
        heads = keys * shared, keys
        return turn_heads(qkv, (angles.cos(), angles.sin()), gains, num_heads=heads, eps=1e-2, way=way)

    qkv = drawn(2, tokens, keys * (shared + 2) * 2 * half, dtype=dtype, seed=seed + 1)
    check(function, qkv, *(1 + 0.3 * drawn(2 * half, dtype=dtype, seed=seed + n) for n in (2, 3)))


@settings(max_examples=15)
@given(dtypes, st.integers(1, 600), st.integers(1, 3), st.integers(1, 2), st.integers(1, 24), st.integers(0, 9))
def test_attention(dtype, tokens, keys, shared, head_dim, seed):
    heads = keys * shared, keys, keys
    inputs = (drawn(1, n, tokens, head_dim, dtype=dtype, seed=seed + place) for place, n in enumerate(heads))
    # A lone key has no gradient: what is left of it is the rounding of two parts of about 1 that cancel.
    smallest = 0.2 if tokens == 1 and dtype != torch.float32 else 0.1
    check(lambda *given, way=None: attend_causally(*given[:3], way=given[3]), *inputs, smallest=smallest)


@settings(max_examples=15)
@given(dtypes, st.integers(1, 40), st.integers(1, 9), sizes, sizes, st.integers(0, 9))
def test_linear_cross_entropy(dtype, tokens, tokens_at_once, width, vocab_size, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(vocab_size, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < 0.2] = IGNORED_LABEL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CPU_TOKENS", tokens_at_once)
        check(
            lambda x, weight, way: linear_cross_entropy(x, weight, targets, way=way),
            *(drawn(tokens, width, dtype=dtype, seed=seed), drawn(vocab_size, width, dtype=dtype, seed=seed + 1)),
        )


# --- a whole network ---

SIZES = {
    "carrier": "qwen3",
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 300,
}


def loss_and_gradients(dtype, num_threads=1, *, damage=None, **changes) -> tuple[float, dict[str, torch.Tensor]]:
    model = Llama(ModelConfig(**{**SIZES, **changes}))
    initialize(model, seed=0)
    model.numerics = Numerics(compute_dtype=dtype)
    if damage:
        with torch.no_grad():
            getattr(model, damage).flatten()[3] = math.nan
    ids = torch.randint(97, (3, 300), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        nats, _ = shifted_loss(model, ids, ids)
        nats.backward()
    finally:
        torch.set_num_threads(before)
    return float(nats.detach()), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_twice_the_same_bits(dtype, num_threads):
    first, second = (loss_and_gradients(dtype, num_threads) for _ in range(2))
    assert first[0] == second[0]
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name]), name


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
def test_the_loss_in_float32_is_that_of_plain_torch(monkeypatch, carrier):
    found = loss_and_gradients(torch.float32, carrier=carrier)
    monkeypatch.setattr(Llama, "way", Way.PLAIN)
    expected = loss_and_gradients(torch.float32, carrier=carrier)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("damage", ["embedding_VD", "qkv_LED", "attention_norm_LD", "q_norm_LH", "down_LDF"])
def test_no_nan_is_hidden(damage):
    nats, gradients = loss_and_gradients(torch.bfloat16, damage=damage)
    assert math.isnan(nats)
    assert any(gradient.isnan().any() for gradient in gradients.values())
