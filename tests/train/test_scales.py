"""Scales against a slow twin that takes the network apart, and against numbers put there on purpose."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.model.config import ModelConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.numerics import Numerics
from stentor.shards.build import Shards
from stentor.train.scales import measure_scales

MATRICES = {"qkv": "qkv_LED", "attention_out": "attention_out_LDE", "gate_up": "gate_up_LFD", "down": "down_LDF"}


def make(config: ModelConfig, **numerics) -> Llama:
    model = Llama(config)
    initialize(model, seed=3)
    model.numerics = Numerics(**numerics)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.fixture(scope="module")
def config(tiny_config) -> ModelConfig:
    return dataclasses.replace(tiny_config, num_hidden_layers=3, num_key_value_heads=1)


@pytest.fixture(scope="module")
def model(config) -> Llama:
    return make(config)


def first_ids(shards: Shards, sequences: int) -> torch.Tensor:
    """Return the first windows: an EOS, and then the stream itself."""
    ids = shards.validation.token_ids[: sequences * 32 - 1].astype(np.int64)
    return torch.from_numpy(np.concatenate(([shards.validation.eos_token_id], ids))).view(sequences, 32)


def rms(tensor: torch.Tensor) -> float:
    values = tensor.detach().double().flatten().tolist()
    return math.sqrt(math.fsum(value * value for value in values) / len(values))


def parts_of(model: Llama, layers: int, ids_BT: torch.Tensor) -> torch.Tensor:
    """Return what the first so many layers leave in the residual stream: a network cut off there, its norm undone."""
    config = dataclasses.replace(model.config, num_hidden_layers=layers)
    cut = Llama(config)
    weights = {
        name: weight[:layers] if name.rpartition("_")[2].startswith("L") else weight
        for name, weight in model.state_dict().items()
    }
    cut.load_state_dict(weights)
    seen = []
    cut._add_norm = lambda x, delta, gain, dtype: (  # type: ignore[method-assign]
        seen.append(x if delta is None else x + delta),
        Llama._add_norm(cut, x, delta, gain, dtype),
    )[1]
    with torch.no_grad():
        cut.hidden(ids_BT)
    return seen[-1]


# --- weights ------------------------------------------------------------------------------------------------


def test_weights_are_measured_layer_by_layer(model, tiny_shards):
    weights = measure_scales(model, tiny_shards.validation, micro_batch_size=2)["weights"]
    for short, name in MATRICES.items():
        assert weights[short] == pytest.approx([rms(layer) for layer in getattr(model, name)], rel=1e-5)
    for short in ("attention_norm", "mlp_norm"):
        assert weights[short] == pytest.approx([rms(layer) for layer in getattr(model, f"{short}_LD")], rel=1e-5)
    assert weights["embedding"] == pytest.approx(rms(model.embedding_VD), rel=1e-5)
    assert weights["final_norm"] == pytest.approx(rms(model.final_norm_D), rel=1e-5)
    assert weights.keys() == {*MATRICES, "attention_norm", "mlp_norm", "embedding", "final_norm"}


def test_what_some_networks_have_is_measured_too(config, tiny_shards):
    model = make(dataclasses.replace(config, carrier="qwen3", tie_word_embeddings=False))
    weights = measure_scales(model, tiny_shards.validation, micro_batch_size=2)["weights"]
    assert weights["q_norm"] == pytest.approx([rms(layer) for layer in model.q_norm_LH], rel=1e-5)
    assert weights["k_norm"] == pytest.approx([rms(layer) for layer in model.k_norm_LH], rel=1e-5)
    assert weights["head"] == pytest.approx(rms(model.head_VD), rel=1e-5)


@given(scale=st.floats(1e-3, 1e3), layer=st.integers(0, 2))
def test_a_layer_that_grows_is_seen_and_no_other(config, tiny_shards, scale, layer):
    model = make(config)
    before = measure_scales(model, tiny_shards.validation, micro_batch_size=1)["weights"]["down"]
    with torch.no_grad():
        model.down_LDF[layer] *= scale
    after = measure_scales(model, tiny_shards.validation, micro_batch_size=1)["weights"]["down"]
    expected = [value * scale if index == layer else value for index, value in enumerate(before)]
    assert after == pytest.approx(expected, rel=1e-4)


# --- activations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch_size", [1, 3, 64])
def test_the_residual_stream_is_what_a_shorter_network_ends_with(model, tiny_shards, micro_batch_size):
    ids_BT = first_ids(tiny_shards, min(4, micro_batch_size))
    found = measure_scales(model, tiny_shards.validation, micro_batch_size=micro_batch_size)
    expected = [rms(parts_of(model, layers, ids_BT)) for layers in (1, 2, 3)]
    assert found["activations"]["residual"] == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        assert found["max_logit"] == pytest.approx(float(model(ids_BT).abs().max()), rel=1e-5)


def test_what_a_layer_adds_is_told_apart(model, tiny_shards):
    scales = measure_scales(model, tiny_shards.validation, micro_batch_size=2)["activations"]
    quiet = make(model.config)
    quiet.load_state_dict(model.state_dict())
    with torch.no_grad():
        quiet.attention_out_LDE[1] = 0
        quiet.down_LDF[2] = 0
    found = measure_scales(quiet, tiny_shards.validation, micro_batch_size=2)["activations"]
    assert found["attention"][1] == 0 < scales["attention"][1]
    assert found["mlp"][2] == 0 < scales["mlp"][2]
    assert found["attention"][0] == scales["attention"][0]


@pytest.mark.parametrize("parts", ["none", "embedding", "ends"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_in_16_bits_say_nearly_the_same(config, model, tiny_shards, dtype, parts):
    exact = measure_scales(model, tiny_shards.validation, micro_batch_size=2)
    short = measure_scales(
        make(config, compute_dtype=dtype, float32_parts=parts), tiny_shards.validation, micro_batch_size=2
    )
    assert short["weights"] == exact["weights"]
    for name, values in exact["activations"].items():
        assert short["activations"][name] == pytest.approx(values, rel=0.05)


# --- nothing is changed, nothing is hidden ------------------------------------------------------------------


def test_nothing_of_the_network_or_of_chance_is_changed(model, tiny_shards):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    chance = torch.get_rng_state()
    first = measure_scales(model, tiny_shards.validation, micro_batch_size=2)
    assert measure_scales(model, tiny_shards.validation, micro_batch_size=2) == first
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_watching_does_not_change_what_is_computed(model, tiny_shards):
    ids_BT, seen = first_ids(tiny_shards, 2), []
    watched = model.hidden(ids_BT, watch=lambda *made: seen.append(made))
    assert torch.equal(watched, model.hidden(ids_BT))
    assert [len(made) for made in seen] == [3, 3, 3]
    assert all(tensor.shape == (2, 32, 32) for made in seen for tensor in made)


def test_what_is_no_number_is_null_in_the_log(config, tiny_shards):
    model = make(config)
    with torch.no_grad():
        model.down_LDF[1, 0, 0] = math.inf
    scales = measure_scales(model, tiny_shards.validation, micro_batch_size=1)
    assert scales["weights"]["down"][1] is None
    assert scales["activations"]["residual"][1] is None
    assert scales["activations"]["residual"][0] is not None
    assert scales["max_logit"] is None
    json.dumps(scales, allow_nan=False)


def test_a_record_is_short(model, tiny_shards):
    text = json.dumps(measure_scales(model, tiny_shards.validation, micro_batch_size=1))
    numbers = [number for number in text.replace("[", " ").replace(",", " ").split() if number[0].isdigit()]
    assert all(len(number.strip("]}").replace(".", "").lstrip("0")) <= 6 for number in numbers if "e" not in number)
