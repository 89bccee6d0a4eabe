"""AdamW: decay on every matrix and on no norm, and each update as the paper writes it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from stentor.train.optimizer import make_optimizer, set_learning_rate

from stentor.config import TrainConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama

CONFIG = TrainConfig(lr=3e-3, weight_decay=0.2, beta1=0.8, beta2=0.9, epsilon=1e-6)


@pytest.fixture(params=["llama", "qwen3"])
def model(request, tiny_config) -> Llama:
    model = Llama(dataclasses.replace(tiny_config, carrier=request.param, tie_word_embeddings=False))
    initialize(model, seed=0)
    return model


def decay_of(model: Llama) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(model, CONFIG).param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


def test_every_parameter_is_updated_once(model):
    groups = make_optimizer(model, CONFIG).param_groups
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())


def test_norms_do_not_decay_and_all_matrices_do(model):
    decay = decay_of(model)
    norms = {"attention_norm_LD", "mlp_norm_LD", "final_norm_D"}
    if model.config.has_qk_norm:
        norms |= {"q_norm_LH", "k_norm_LH"}
    matrices = {"embedding_VD", "qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF", "head_VD"}
    assert {name for name, value in decay.items() if value == 0} == norms
    assert {name for name, value in decay.items() if value == 0.2} == matrices


def test_settings_are_the_recipes(model):
    for group in make_optimizer(model, CONFIG).param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (3e-3, (0.8, 0.9), 1e-6)
        assert group["amsgrad"] is False
        assert group["maximize"] is False


def test_the_learning_rate_of_every_group_is_set(model):
    optimizer = make_optimizer(model, CONFIG)
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def adamw(weight, gradient, first, second, step: int, lr: float, weight_decay: float):
    """Make update number `step` (from 1): Loshchilov and Hutter 2019, algorithm 2, in float64."""
    first = CONFIG.beta1 * first + (1 - CONFIG.beta1) * gradient
    second = CONFIG.beta2 * second + (1 - CONFIG.beta2) * gradient**2
    corrected_first, corrected_second = first / (1 - CONFIG.beta1**step), second / (1 - CONFIG.beta2**step)
    update = corrected_first / (corrected_second.sqrt() + CONFIG.epsilon) + weight_decay * weight
    return weight - lr * update, first, second


def test_updates_equal_those_written_by_hand(model):
    optimizer, decay = make_optimizer(model, CONFIG), decay_of(model)
    generator = torch.Generator().manual_seed(4)
    expected = {
        name: (p.detach().double().clone(), torch.zeros_like(p).double(), torch.zeros_like(p).double())
        for name, p in model.named_parameters()
    }
    for step in range(1, 6):
        lr = CONFIG.lr / math.sqrt(step)
        set_learning_rate(optimizer, lr)
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            expected[name] = adamw(
                expected[name][0], parameter.grad.double(), *expected[name][1:], step, lr, decay[name]
            )
        optimizer.step()
    for name, parameter in model.named_parameters():
        weight, first, second = expected[name]
        torch.testing.assert_close(parameter.detach().double(), weight, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(optimizer.state[parameter]["exp_avg"].double(), first, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(optimizer.state[parameter]["exp_avg_sq"].double(), second, atol=1e-6, rtol=1e-5)


def test_the_moments_are_float32_whatever_the_gradients_are_computed_in(model):
    optimizer = make_optimizer(model, CONFIG)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert {values["exp_avg"].dtype for values in optimizer.state.values()} == {torch.float32}
