"""The optimizers of a run: which updates what, and each of AdamW's updates as the paper writes it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from stentor.config import TrainConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.numerics import Numerics
from stentor.train.muon import Muon
from stentor.train.optimizers import Optimizers
from stentor.train.schedule import Rates

CONFIG = TrainConfig(
    lr=3e-3, embedding_lr=8e-3, weight_decay=0.2, embedding_weight_decay=0.05, beta1=0.8, beta2=0.9, epsilon=1e-6
)
MUON = dataclasses.replace(CONFIG, optimizer="muon", matrix_lr=0.03)
TABLES = {"embedding_VD", "head_VD"}
NORMS = {"attention_norm_LD", "mlp_norm_LD", "final_norm_D", "q_norm_LH", "k_norm_LH"}
MATRICES = {"qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF"}


@pytest.fixture(params=["llama", "qwen3"])
def model(request, tiny_config) -> Llama:
    model = Llama(dataclasses.replace(tiny_config, carrier=request.param, tie_word_embeddings=False))
    initialize(model, seed=0)
    return model


def twin_of(model: Llama) -> Llama:
    twin = Llama(model.config)
    twin.load_state_dict(model.state_dict())
    return twin


def give_gradients(model: Llama, seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    """Set random gradients, and return them in float64."""
    generator = torch.Generator().manual_seed(seed)
    grads = {name: scale * torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = grads[name].clone()
    return {name: grad.double() for name, grad in grads.items()}


def update(optimizers: Optimizers, factor: float = 1.0, *, momentum=0.9, grad_scale=1.0, applies=True) -> None:
    optimizers.set_rates(Rates(factor, momentum))
    optimizers.step(grad_scale=torch.tensor(grad_scale), applies=torch.tensor(applies))


def weights_of(model: Llama) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def state_of(optimizers: Optimizers) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in optimizers.state().items()}


def changed(model: Llama, before: dict[str, Tensor]) -> set[str]:
    return {name for name, weight in weights_of(model).items() if not torch.equal(weight, before[name])}


# --- AdamW ---


def peak_lr(name: str) -> float:
    return 8e-3 if name in TABLES else 3e-3


def weight_decay(name: str) -> float:
    return 0.05 if name in TABLES else 0.0 if name in NORMS else 0.2


def adamw(weight, gradient, first, second, step: int, lr: float, decay: float):
    """Make update number `step` (from 1): Loshchilov and Hutter 2019, algorithm 2, in float64."""
    first = CONFIG.beta1 * first + (1 - CONFIG.beta1) * gradient
    second = CONFIG.beta2 * second + (1 - CONFIG.beta2) * gradient**2
    corrected_first, corrected_second = first / (1 - CONFIG.beta1**step), second / (1 - CONFIG.beta2**step)
    update = corrected_first / (corrected_second.sqrt() + CONFIG.epsilon) + decay * weight
    return weight - lr * update, first, second


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("grad_scale", [1.0, 512.0])
def test_updates_equal_those_written_by_hand(model, config, grad_scale):
    """Where Muon has the matrices, all the rest is AdamW's; every group has its own rate and decay."""
    optimizers = Optimizers(model, config)
    names = [name for name, _ in model.named_parameters() if config is CONFIG or name not in MATRICES]
    expected = {
        name: (weight.double(), torch.zeros_like(weight).double(), torch.zeros_like(weight).double())
        for name, weight in weights_of(model).items()
    }
    for step in range(1, 6):
        factor = 1 / math.sqrt(step)
        grads = give_gradients(model, seed=step, scale=grad_scale)
        update(optimizers, factor, grad_scale=grad_scale)
        for name in names:
            rates = (factor * peak_lr(name), weight_decay(name))
            expected[name] = adamw(expected[name][0], grads[name] / grad_scale, *expected[name][1:], step, *rates)
    weights, state = weights_of(model), optimizers.state()
    for name in names:
        weight, first, second = expected[name]
        torch.testing.assert_close(weights[name].double(), weight, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(state[f"exp_avg.{name}"].double(), first, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(state[f"exp_avg_sq.{name}"].double(), second, atol=1e-6, rtol=1e-5)
    assert float(state["count"]) == 5


def test_an_embedding_without_a_rate_of_its_own_has_that_of_all(model):
    twin = twin_of(model)
    for one, config in ((model, dataclasses.replace(CONFIG, embedding_lr=0.0)), (twin, CONFIG)):
        give_gradients(one, seed=1)
        update(Optimizers(one, config))
    own, shared = (weights_of(one) for one in (twin, model))
    assert {name for name in own if not torch.equal(own[name], shared[name])} == TABLES


def test_a_tied_head_is_one_table_updated_once(tiny_config):
    model = Llama(tiny_config)
    initialize(model, seed=0)
    before = weights_of(model)["embedding_VD"].double()
    grads = give_gradients(model, seed=2)["embedding_VD"]
    update(Optimizers(model, CONFIG))
    expected = adamw(before, grads, 0 * grads, 0 * grads, 1, 8e-3, 0.05)[0]
    torch.testing.assert_close(weights_of(model)["embedding_VD"].double(), expected, atol=1e-6, rtol=1e-5)


# --- who updates what ---


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
def test_every_parameter_is_updated(model, config):
    before = weights_of(model)
    give_gradients(model, seed=0)
    update(Optimizers(model, config))
    assert changed(model, before) == before.keys()


def test_muon_has_the_matrices_of_layers_and_nothing_else(model):
    twin = twin_of(model)
    optimizers = Optimizers(model, MUON)
    muon = Muon(twin.config, twin_weights := weights_of(twin), dtype=torch.float32)
    for count, (factor, momentum) in enumerate([(1.0, 0.85), (0.5, 0.9)], start=1):
        give_gradients(model, seed=count)
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        update(optimizers, factor, momentum=momentum, grad_scale=2.0)
        muon.update(
            grads,
            lr=torch.tensor(factor * 0.03),
            momentum=torch.tensor(momentum),
            weight_decay=torch.tensor(factor * 0.2),
            grad_scale=torch.tensor(2.0),
            applies=torch.tensor(True),
        )
    for name, weight in weights_of(model).items():
        if name in MATRICES:
            torch.testing.assert_close(weight, twin_weights[name], atol=1e-6, rtol=1e-6)


def test_with_a_rate_of_zero_nothing_moves(model):
    for config in (CONFIG, MUON):
        before = weights_of(model)
        give_gradients(model, seed=0)
        update(Optimizers(model, config), 0.0)
        assert changed(model, before) == set()


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
def test_norms_that_are_not_learned_stay_and_have_no_state(model, config):
    norms = NORMS & weights_of(model).keys()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in NORMS)
    optimizers, before = Optimizers(model, config), weights_of(model)
    assert optimizers.parameters.keys() == before.keys() - norms
    give_gradients(model, seed=0)
    update(optimizers)
    assert changed(model, before) == before.keys() - norms
    assert not [name for name in optimizers.state() if name.partition(".")[2] in norms]


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 1e-6), (torch.bfloat16, 0.1), (torch.float16, 1e-6)])
def test_matrices_are_made_orthogonal_in_bfloat16_where_products_are(model, dtype, expected):
    """In float16 momenta could overflow or vanish; float32 is taken instead."""
    twin = twin_of(model)
    model.numerics = Numerics(compute_dtype=dtype)
    before = weights_of(model)
    for one in (model, twin):
        give_gradients(one, seed=0)
        update(Optimizers(one, dataclasses.replace(MUON, weight_decay=0.0)))
    ours, theirs = weights_of(model)["qkv_LED"] - before["qkv_LED"], weights_of(twin)["qkv_LED"] - before["qkv_LED"]
    assert (ours - theirs).norm() <= expected * theirs.norm()
    assert torch.equal(ours, theirs) == (dtype != torch.bfloat16)


# --- an update that does not apply ---


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("num_before", [0, 2])
def test_an_update_that_does_not_apply_changes_nothing(model, config, num_before):
    optimizers, twin = Optimizers(model, config), twin_of(model)
    undisturbed = Optimizers(twin, config)
    for seed in range(num_before):
        for one, its in ((model, optimizers), (twin, undisturbed)):
            give_gradients(one, seed)
            update(its)
    weights, state = weights_of(model), state_of(optimizers)
    give_gradients(model, seed=7, scale=float("nan"))
    update(optimizers, applies=False)
    assert changed(model, weights) == set()
    assert all(torch.equal(tensor, state[name]) for name, tensor in optimizers.state().items())
    for one, its in ((model, optimizers), (twin, undisturbed)):
        give_gradients(one, seed=8)
        update(its)
    assert changed(model, weights_of(twin)) == set(), "the update after it differs"
    assert all(torch.equal(tensor, undisturbed.state()[name]) for name, tensor in optimizers.state().items())


# --- its state ---


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
def test_a_fresh_state_is_all_zeros_and_has_every_name(model, config):
    optimizers = Optimizers(model, config)
    fresh = state_of(optimizers)
    assert not any(tensor.any() for tensor in fresh.values())
    give_gradients(model, seed=0)
    update(optimizers)
    after = optimizers.state()
    assert after.keys() == fresh.keys()
    assert {name: (t.shape, t.dtype) for name, t in after.items()} == {n: (t.shape, t.dtype) for n, t in fresh.items()}
    assert all(tensor.any() for tensor in after.values())
    names = weights_of(model).keys()
    by_adamw = names if config is CONFIG else names - MATRICES
    expected = {f"{moment}.{name}" for moment in ("exp_avg", "exp_avg_sq") for name in by_adamw} | {"count"}
    if config is MUON:
        expected |= {f"{moment}.{name}" for moment in ("momentum", "second_moment") for name in MATRICES}
    assert after.keys() == expected


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("num_before", [0, 3])
def test_a_loaded_state_goes_on_bit_for_bit(model, config, num_before):
    optimizers = Optimizers(model, config)
    for seed in range(num_before):
        give_gradients(model, seed)
        update(optimizers)
    twin = twin_of(model)
    loaded = Optimizers(twin, config)
    loaded.load_state(state_of(optimizers))
    for seed in (10, 11):
        for one, its in ((model, optimizers), (twin, loaded)):
            give_gradients(one, seed)
            update(its, 0.7)
    assert changed(model, weights_of(twin)) == set()
    assert all(torch.equal(tensor, loaded.state()[name]) for name, tensor in optimizers.state().items())


def test_the_rates_of_the_recipe_stay_when_a_state_is_loaded(model):
    twin = twin_of(model)
    ours, theirs = Optimizers(model, CONFIG), Optimizers(twin, dataclasses.replace(CONFIG, lr=0.0011))
    give_gradients(model, seed=0)
    update(ours)
    twin.load_state_dict(model.state_dict())
    theirs.load_state(state_of(ours))
    before = weights_of(twin)["final_norm_D"]
    for one, its in ((model, ours), (twin, theirs)):
        give_gradients(one, seed=1)
        update(its)
    ratio = (weights_of(twin)["final_norm_D"] - before) / (weights_of(model)["final_norm_D"] - before)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.0011 / 3e-3), atol=1e-3, rtol=1e-3)


def test_the_moments_are_float32_whatever_is_computed_in(model):
    model.numerics = Numerics(compute_dtype=torch.bfloat16)
    for config in (CONFIG, MUON):
        optimizers = Optimizers(model, config)
        give_gradients(model, seed=0)
        update(optimizers)
        assert {tensor.dtype for tensor in optimizers.state().values()} == {torch.float32}
