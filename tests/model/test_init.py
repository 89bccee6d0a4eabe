"""Initial weights: their distribution, their seed, and what stays 1."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from stentor.model.init import INITIAL_STD, QUERY_GAIN, SCALED_STD, initialize, is_norm
from stentor.model.llama import Llama
from stentor.model.presets import preset


def initialized(seed: int = 0, initializer: str = "normal", **changes) -> Llama:
    model = Llama(dataclasses.replace(preset("tiny"), **changes))
    initialize(model, seed=seed, initializer=initializer)
    return model


def test_matrices_are_normal_and_norms_are_one():
    for name, parameter in initialized().state_dict().items():
        if "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert float(parameter.std()) == pytest.approx(INITIAL_STD, rel=0.02), name
            assert float(parameter.mean()) == pytest.approx(0, abs=3e-4), name


def test_truncated_normal_stays_within_two_deviations():
    plain, truncated = initialized(), initialized(initializer="truncated_normal")
    assert float(plain.embedding_VD.detach().abs().max()) > 3 * INITIAL_STD
    for name, parameter in truncated.state_dict().items():
        if "norm" not in name:
            assert float(parameter.abs().max()) <= 2 * INITIAL_STD, name


@pytest.mark.parametrize("initializer", ["normal", "truncated_normal", "scaled"])
def test_the_seed_decides(initializer):
    for (name, one), (_, same), (_, other) in zip(
        initialized(3, initializer).named_parameters(),
        initialized(3, initializer).named_parameters(),
        initialized(4, initializer).named_parameters(),
        strict=True,
    ):
        assert torch.equal(one, same)
        if "norm" not in name and one.any():
            assert not torch.equal(one, other)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    initialized()
    assert torch.equal(torch.rand(1), expected)


# --- scaled ---


def test_scaled_matrices_are_uniform_by_their_inputs():
    model = initialized(initializer="scaled")
    for name in ("qkv_LED", "gate_up_LFD"):
        values = getattr(model, name).detach()
        inputs = values.shape[-1]
        assert float(values.std()) == pytest.approx(SCALED_STD / math.sqrt(inputs), rel=0.01), name
        bound = SCALED_STD * math.sqrt(3 / inputs)
        assert 0.999 * bound < float(values.abs().max()) <= bound
        inner = (values.abs() < bound / 2).float().mean()
        assert float(inner) == pytest.approx(0.5, abs=0.01), "uniform: half of the values lie in half of the range"


def test_what_layers_add_begins_at_zero_and_the_tables_as_always():
    model = initialized(initializer="scaled", tie_word_embeddings=False)
    assert not model.attention_out_LDE.any()
    assert not model.down_LDF.any()
    for table in (model.embedding_VD, model.head_VD):
        assert float(table.detach().std()) == pytest.approx(INITIAL_STD, rel=0.02)


def test_a_scaled_network_begins_as_its_embedding():
    """All layers add nothing: logits are those of the normalised embedding alone."""
    model = initialized(initializer="scaled")
    ids_BT = torch.arange(20).view(2, 10)
    x_BTD = torch.nn.functional.embedding(ids_BT, model.embedding_VD)
    normed_BTD = torch.nn.functional.rms_norm(x_BTD, x_BTD.shape[-1:], eps=model.config.rms_norm_eps)
    torch.testing.assert_close(model(ids_BT), normed_BTD @ model.embedding_VD.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("initializer", ["normal", "truncated_normal", "scaled"])
def test_only_scaled_queries_have_another_gain(initializer):
    model = initialized(initializer=initializer, carrier="qwen3")
    for name, gain in model.named_parameters():
        if is_norm(name):
            expected = QUERY_GAIN if (initializer, name) == ("scaled", "q_norm_LH") else 1.0
            assert torch.equal(gain, torch.full_like(gain, expected)), name


def test_norms_are_told_by_name():
    names = {name for name, _ in initialized(carrier="qwen3", tie_word_embeddings=False).named_parameters()}
    norms = {"attention_norm_LD", "mlp_norm_LD", "final_norm_D", "q_norm_LH", "k_norm_LH"}
    assert {name for name in names if is_norm(name)} == norms
