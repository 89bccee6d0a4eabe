"""Which product of the network sees which type, and which weights it sees rounded."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stentor.model import llama, loss, ops
from stentor.model.config import ModelConfig
from stentor.model.fake_quant import fake_quantize
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.loss import shifted_loss
from stentor.model.numerics import Numerics

CONFIG = ModelConfig(
    carrier="qwen3",
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=16,
)
HALVES = [torch.bfloat16, torch.float16]
MATRICES = ("qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF")


def model_with(config: ModelConfig = CONFIG, **numerics) -> Llama:
    model = Llama(config)
    initialize(model, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "norm" in name else 4)
    model.numerics = Numerics(**numerics)
    return model


def ids(num_sequences: int = 2) -> Tensor:
    return torch.randint(61, (num_sequences, 16), generator=torch.Generator().manual_seed(3))


class Seen:
    """Notes the type of every product, of every norm's result and of the sums between layers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.products: list[torch.dtype] = []
        self.streams: list[torch.dtype] = []
        self.weights: list[Tensor] = []
        real_linear, real_norm, real_loss = functional.linear, llama.add_rms_norm, loss.linear_cross_entropy

        def linear(x: Tensor, weight: Tensor) -> Tensor:
            assert x.dtype == weight.dtype
            self.products.append(x.dtype)
            self.weights.append(weight.detach())
            return real_linear(x, weight)

        def norm(x: Tensor, delta: Tensor | None, gain: Tensor, **kwargs) -> tuple[Tensor, Tensor]:
            assert gain.dtype == torch.float32
            total, normed = real_norm(x, delta, gain, **kwargs)
            self.streams.append(total.dtype)
            return total, normed

        def head(x: Tensor, weight: Tensor, targets: Tensor, **kwargs) -> Tensor:
            assert x.dtype == weight.dtype
            self.products.append(x.dtype)
            return real_loss(x, weight, targets, **kwargs)

        monkeypatch.setattr(functional, "linear", linear)
        monkeypatch.setattr(loss, "linear_cross_entropy", head)
        monkeypatch.setattr(llama, "add_rms_norm", norm)


@pytest.fixture
def seen(monkeypatch) -> Seen:
    return Seen(monkeypatch)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    ("float32_parts", "float32_layers", "stream_is_float32"),
    [("none", (), False), ("embedding", (), True), ("ends", (0, 2), True)],
)
def test_which_products_see_which_type(seen, half, float32_parts, float32_layers, stream_is_float32):
    """Four products a layer, then the head."""
    model = model_with(compute_dtype=half, float32_parts=float32_parts)
    logits = model(ids())
    stream = torch.float32 if stream_is_float32 else half
    expected = [torch.float32 if layer in float32_layers else half for layer in range(3) for _ in range(4)]
    assert seen.products == [*expected, stream]
    assert set(seen.streams) == {stream}
    assert len(seen.streams) == 2 * 3 + 1
    assert logits.dtype is stream


@pytest.mark.parametrize("float32_parts", ["none", "embedding", "ends"])
def test_in_float32_all_parts_are_the_same(seen, float32_parts):
    plain, other = model_with(), model_with(float32_parts=float32_parts)
    assert torch.equal(plain(ids()), other(ids()))
    assert set(seen.products) == {torch.float32}


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("half", HALVES)
def test_the_loss_sees_the_head_as_the_logits_do(seen, half, untied):
    config = dataclasses.replace(CONFIG, tie_word_embeddings=not untied)
    for float32_parts, expected in (("none", half), ("embedding", torch.float32), ("ends", torch.float32)):
        model = model_with(config, compute_dtype=half, float32_parts=float32_parts)
        assert model.head_weight_VD.dtype is expected
        nats, count = shifted_loss(model, ids(), ids())
        assert nats.dtype is torch.float32
        assert int(count) == 30
        assert seen.products[-1] is expected


@pytest.mark.parametrize("half", HALVES)
def test_more_in_float32_is_nearer_to_float32(half):
    exact = shifted_loss(model_with(), ids(), ids())[0].detach()
    errors = []
    for float32_parts in ("none", "embedding", "ends"):
        model = model_with(compute_dtype=half, float32_parts=float32_parts)
        errors.append(float((model(ids()).float() - model_with()(ids())).norm().detach()))
        found = shifted_loss(model, ids(), ids())[0].detach()
        torch.testing.assert_close(found, exact, atol=0.05, rtol=1e-2)
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("half", [torch.float32, *HALVES])
@pytest.mark.parametrize("float32_parts", ["none", "embedding", "ends"])
@pytest.mark.parametrize("fake_quantizes", [False, True])
def test_every_parameter_gets_a_float32_gradient(half, float32_parts, fake_quantizes):
    model = model_with(compute_dtype=half, float32_parts=float32_parts, fake_quantizes=fake_quantizes)
    shifted_loss(model, ids(), ids())[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype is torch.float32
        if "_L" in name:
            assert parameter.grad.flatten(1).any(dim=1).all(), f"{name}: a layer has none"


# --- INT8 ---


def test_products_of_layers_see_rounded_weights_and_no_others_do(seen):
    model = model_with(fake_quantizes=True)
    model(ids())
    *layers, head = seen.weights
    stacks = [fake_quantize(getattr(model, name).detach()) for name in MATRICES]
    expected = [stack[layer] for layer in range(3) for stack in stacks]
    assert all(torch.equal(found, rounded) for found, rounded in zip(layers, expected, strict=True))
    assert torch.equal(head, model.embedding_VD.detach())
    assert not torch.equal(layers[0], model.qkv_LED[0].detach())


def test_the_ends_are_not_rounded(seen):
    model = model_with(fake_quantizes=True, float32_parts="ends")
    model(ids())
    for layer in range(3):
        for name, found in zip(MATRICES, seen.weights[4 * layer : 4 * layer + 4], strict=True):
            master = getattr(model, name).detach()[layer]
            assert torch.equal(found, fake_quantize(master) if layer == 1 else master), (name, layer)


@pytest.mark.parametrize("half", HALVES)
def test_rounded_to_int8_first_and_to_16_bits_then(seen, half):
    model = model_with(fake_quantizes=True, compute_dtype=half)
    model(ids())
    assert torch.equal(seen.weights[3], fake_quantize(model.down_LDF.detach()[0]).to(half))


def test_a_network_that_rounds_is_a_network_of_rounded_weights():
    """Logits and gradients are those of a plain network whose matrices hold the rounded values."""
    rounding, plain = model_with(fake_quantizes=True), model_with()
    with torch.no_grad():
        for name in MATRICES:
            getattr(plain, name).copy_(fake_quantize(getattr(plain, name)))
    assert torch.equal(rounding(ids()), plain(ids()))
    for model in (rounding, plain):
        shifted_loss(model, ids(), ids())[0].backward()
    for (name, ours), (_, theirs) in zip(rounding.named_parameters(), plain.named_parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad), name


# --- layers ---


def test_layers_are_views_of_the_stack_where_nothing_is_converted():
    stacked = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    for layer, matrix in enumerate(Numerics().layers(stacked)):
        assert matrix.data_ptr() == stacked[layer].data_ptr()


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_the_ends_are_the_first_and_the_last_layer(num_layers):
    found = Numerics(compute_dtype=torch.bfloat16, float32_parts="ends").layers(torch.zeros(num_layers, 2, 3))
    assert len(found) == num_layers
    inner = [torch.bfloat16] * max(0, num_layers - 2)
    assert [matrix.dtype for matrix in found] == [torch.float32, *inner, torch.float32][-num_layers:]


def test_the_stream_is_float32_as_soon_as_a_part_is():
    expected = {"none": torch.bfloat16, "embedding": torch.float32, "ends": torch.float32}
    assert {p: Numerics(compute_dtype=torch.bfloat16, float32_parts=p).stream_dtype for p in expected} == expected


def test_ignored_labels_are_one_number_everywhere():
    assert loss.IGNORED_LABEL is ops.IGNORED_LABEL
