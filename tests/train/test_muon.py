"""Muon against a slow twin that takes one matrix at a time, in float64, with a singular value decomposition."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stentor.model.config import ModelConfig
from stentor.model.init import is_norm
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.train.muon import POLAR_EXPRESS, Muon, matrix_places, polar

SMALL = ModelConfig(
    vocab_size=16,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=6,
    max_position_embeddings=8,
)
SHAPES = {
    "square attention": SMALL,
    "two key heads": dataclasses.replace(SMALL, num_key_value_heads=2),
    "one key head": dataclasses.replace(SMALL, num_key_value_heads=1),
    "wide heads": dataclasses.replace(SMALL, head_dim=16),
    "narrow heads": dataclasses.replace(SMALL, head_dim=2),
    "narrow feed-forward": dataclasses.replace(SMALL, intermediate_size=8),
    "feed-forward like queries": dataclasses.replace(SMALL, intermediate_size=24, carrier="qwen3"),
    "one layer": dataclasses.replace(SMALL, num_hidden_layers=1, num_key_value_heads=2),
}
LOWEST, HIGHEST = 0.846, 1.142
"""Where the method brings every singular value that is at least a thousandth of the matrix's Frobenius norm."""
each_shape = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return values for every parameter of a model, of the size that training gives them."""
    return {
        name: 0.2 * randn(*parameter.shape, seed=seed + index)
        for index, (name, parameter) in enumerate(Llama(config).named_parameters())
    }


def matrices_of(config: ModelConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each layer's matrices on their own, in float64, under Hugging Face's names."""
    separate = to_hugging_face(config, tensors)
    return {name: tensor.double() for name, tensor in separate.items() if ".layers." in name and tensor.ndim == 2}


def reached(singular_values: Tensor) -> Tensor:
    """Return where the method brings singular values of a matrix of Frobenius norm 1: one number at a time."""
    values = []
    for value in (singular_values / 1.02).tolist():
        for a, b, c in POLAR_EXPRESS:
            value = a * value + b * value**3 + c * value**5
        values.append(value)
    return torch.tensor(values, dtype=torch.float64)


def slow_polar(matrix: Tensor) -> Tensor:
    u, singular_values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ torch.diag(reached(singular_values / singular_values.norm())) @ v


class SlowMuon:
    """Updates one matrix, as the papers write it; float64."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.momentum, self.rows, self.count = weight, torch.zeros_like(weight), [0.0] * len(weight), 0

    def update(self, grad: Tensor, *, lr: float, momentum: float, weight_decay: float) -> None:
        self.count += 1
        self.momentum = momentum * self.momentum + (1 - momentum) * grad
        direction = slow_polar((1 - momentum) * grad + momentum * self.momentum)
        evened = direction.clone()
        for index, row in enumerate(direction):
            self.rows[index] = 0.95 * self.rows[index] + 0.05 * float((row**2).mean())
            evened[index] = row / math.sqrt(self.rows[index] / (1 - 0.95**self.count))
        evened = evened * direction.norm() / evened.norm()
        outputs, inputs = self.weight.shape
        decay = torch.where(evened * self.weight > 0, weight_decay * self.weight, 0.0)
        self.weight = self.weight - lr * math.sqrt(max(1, outputs / inputs)) * (evened + decay)


def update(muon: Muon, grads: dict[str, Tensor], **changes) -> None:
    given = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.4, "grad_scale": 1.0, "applies": True, **changes}
    muon.update(grads, **{name: torch.tensor(value) for name, value in given.items()})


def changing_tensors(muon: Muon, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    groups = {"weight": weights, "momentum": muon.momenta, "second": muon.second_moments}
    return {f"{group}.{name}": t.clone() for group, tensors in groups.items() for name, t in tensors.items()}


# --- the update ---


@each_shape
def test_updates_equal_the_slow_twin_matrix_by_matrix(config):
    """Queries, keys, values, gate and up are each made orthogonal on their own, although they are kept merged."""
    weights = random_weights(config)
    muon = Muon(config, weights, dtype=torch.float32)
    twins = {name: SlowMuon(weight) for name, weight in matrices_of(config, weights).items()}
    assert len(twins) == 7 * config.num_hidden_layers
    for count, (lr, momentum) in enumerate([(0.03, 0.85), (0.02, 0.9), (0.01, 0.95)], start=1):
        grads = random_weights(config, seed=100 * count)
        update(muon, grads, lr=lr, momentum=momentum, grad_scale=4.0)
        for name, grad in matrices_of(config, grads).items():
            twins[name].update(grad / 4, lr=lr, momentum=momentum, weight_decay=0.4)
    moved = matrices_of(config, weights)
    momenta = matrices_of(config, {**weights, **muon.momenta})
    for name, twin in twins.items():
        torch.testing.assert_close(moved[name], twin.weight, atol=2e-5, rtol=0, msg=lambda said, n=name: f"{n}: {said}")
        torch.testing.assert_close(momenta[name], twin.momentum, atol=1e-6, rtol=1e-5)


def test_what_is_no_matrix_of_a_layer_is_left_alone():
    weights = random_weights(dataclasses.replace(SMALL, carrier="qwen3", tie_word_embeddings=False))
    config = dataclasses.replace(SMALL, carrier="qwen3", tie_word_embeddings=False)
    before = {name: weight.clone() for name, weight in weights.items()}
    update(Muon(config, weights, dtype=torch.float32), random_weights(config, seed=5))
    changed = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert changed == {"qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF"}


@each_shape
def test_places_tile_every_stack_of_matrices(config):
    rows = {name: weight.shape[1] for name, weight in random_weights(config).items() if weight.ndim == 3}
    found: dict[str, list[tuple[int, int]]] = {}
    for place in matrix_places(config):
        assert not is_norm(place.name)
        found.setdefault(place.name, []).append((place.start, place.end))
    assert found.keys() == rows.keys()
    for name, spans in found.items():
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == rows[name]
    assert len(found["qkv_LED"]) == 3
    assert len(found["gate_up_LFD"]) == 2


@given(
    st.integers(1, 12), st.integers(1, 12), st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]), st.integers(1, 3),
    st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=30)
def test_the_first_update_of_any_shape_has_the_size_of_an_orthogonal_matrix(hidden, inner, heads, layers, seed):
    """Before decay, the Frobenius norm of an update is lr * sqrt(max(1, out / in)) * sqrt(rank), within the method."""
    config = dataclasses.replace(
        SMALL, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads[0], num_key_value_heads=heads[1],
    )  # fmt: skip
    weights = random_weights(config, seed)
    before = matrices_of(config, {name: weight.clone() for name, weight in weights.items()})
    grads = {name: 1000 * grad for name, grad in random_weights(config, seed + 50).items()}  # else some nearly vanish
    update(Muon(config, weights, dtype=torch.float32), grads, weight_decay=0.0)
    for name, after in matrices_of(config, weights).items():
        outputs, inputs = after.shape
        expected = slow_polar(matrices_of(config, grads)[name]).norm() * math.sqrt(max(1, outputs / inputs))
        assert float((after - before[name]).norm()) == pytest.approx(0.03 * float(expected), rel=1e-3)


def test_the_scale_of_gradients_does_not_matter():
    ours, theirs = random_weights(SMALL), random_weights(SMALL)
    grads = random_weights(SMALL, seed=9)
    update(Muon(SMALL, ours, dtype=torch.float32), grads)
    scaled = {name: 1024 * grad for name, grad in grads.items()}
    update(Muon(SMALL, theirs, dtype=torch.float32), scaled, grad_scale=1024.0)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    unscaled = random_weights(SMALL)
    update(Muon(SMALL, unscaled, dtype=torch.float32), scaled)
    assert all(torch.allclose(ours[name], unscaled[name], atol=1e-5) for name in ours)


def test_decay_pulls_only_where_the_update_does_too():
    grads, moved = random_weights(SMALL, seed=9), []
    for weight_decay in (0.0, 0.4):
        weights = random_weights(SMALL)
        update(Muon(SMALL, weights, dtype=torch.float32), grads, lr=0.01, weight_decay=weight_decay)
        moved.append(weights)
    before = random_weights(SMALL)
    for name in ("qkv_LED", "down_LDF"):
        plain, decayed = (weights[name] - before[name] for weights in moved)
        is_pulled = plain * before[name] < 0  # towards zero
        assert 0.3 < is_pulled.float().mean() < 0.7
        assert torch.equal(plain[~is_pulled], decayed[~is_pulled])
        assert (decayed[is_pulled].abs() > plain[is_pulled].abs()).float().mean() > 0.99


def test_in_bfloat16_the_update_is_the_same_but_for_rounding():
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        weights = random_weights(SMALL)
        update(Muon(SMALL, weights, dtype=dtype), random_weights(SMALL, seed=9), weight_decay=0.0)
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        moved.append(weights)
    before = random_weights(SMALL)
    for name in ("qkv_LED", "attention_out_LDE", "gate_up_LFD", "down_LDF"):
        ours, theirs = (weights[name] - before[name] for weights in moved)
        assert (ours - theirs).norm() < 0.05 * ours.norm()


def test_a_gradient_of_zero_moves_nothing_and_is_no_nan():
    weights = random_weights(SMALL)
    before = {name: weight.clone() for name, weight in weights.items()}
    muon = Muon(SMALL, weights, dtype=torch.float32)
    update(muon, {name: torch.zeros_like(weight) for name, weight in weights.items()})
    assert all(torch.equal(weights[name], before[name]) for name in weights)


# --- an update that does not apply ---


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf")])
def test_an_update_that_does_not_apply_changes_nothing(poison):
    weights = random_weights(SMALL)
    muon = Muon(SMALL, weights, dtype=torch.float32)
    update(muon, random_weights(SMALL, seed=3))
    before = changing_tensors(muon, weights)
    grads = random_weights(SMALL, seed=4)
    for grad in grads.values():
        grad.view(-1)[0] = poison
    update(muon, grads, applies=False)
    for name, tensor in changing_tensors(muon, weights).items():
        assert torch.equal(tensor, before[name]), name


def test_after_a_skipped_update_the_next_is_as_if_it_had_not_been():
    ours, theirs = random_weights(SMALL), random_weights(SMALL)
    disturbed, undisturbed = Muon(SMALL, ours, dtype=torch.float32), Muon(SMALL, theirs, dtype=torch.float32)
    for muon in (disturbed, undisturbed):
        update(muon, random_weights(SMALL, seed=3))
    update(disturbed, {name: weight * float("nan") for name, weight in ours.items()}, applies=False)
    for muon in (disturbed, undisturbed):
        update(muon, random_weights(SMALL, seed=4))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- the polar factor ---


def with_singular_values(values: Tensor, columns: int, seed: int = 0) -> Tensor:
    left = torch.linalg.qr(randn(len(values), len(values), seed=seed, dtype=torch.float64))[0]
    right = torch.linalg.qr(randn(columns, len(values), seed=seed + 1, dtype=torch.float64))[0]
    return left @ torch.diag(values.double()) @ right.T


@pytest.mark.parametrize("shape", [(8, 8), (16, 64), (64, 256), (1, 5), (3, 3), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_of_random_matrices_come_near_one(shape, dtype):
    matrices = randn(2, *shape, seed=1)
    is_reached = torch.linalg.svdvals(matrices) > 2e-3 * torch.linalg.matrix_norm(matrices)[:, None]
    found = torch.linalg.svdvals(polar(matrices.to(dtype)).float())
    slack = 1e-3 if dtype == torch.float32 else 0.02
    assert found.max() < HIGHEST + slack
    assert found[is_reached].min() > LOWEST - slack
    assert is_reached.float().mean() > 0.9


def test_an_ill_conditioned_matrix_comes_near_one_down_to_a_thousandth():
    """Smaller singular values are enlarged about a thousandfold, and none passes the bound."""
    values = torch.logspace(0, -6, 32, dtype=torch.float64)
    matrix = with_singular_values(values, 48)
    shares = values / values.norm()
    expected = reached(shares)
    near_one = shares > 1e-3
    assert near_one.sum() == 15
    assert LOWEST < expected[near_one].min() < expected.max() < HIGHEST
    assert (expected[~near_one] > 850 * shares[~near_one]).all()
    found = torch.linalg.svdvals(polar(matrix[None])[0])
    torch.testing.assert_close(found, expected.sort(descending=True).values, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1e6])
def test_it_is_the_polar_factor_within_the_method(scale):
    """U V^T of the singular value decomposition, each direction within what the method reaches."""
    matrix = scale * with_singular_values(torch.linspace(0.05, 1, 12), 20)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = polar(matrix.float()[None])[0].double()
    torch.testing.assert_close(found, slow_polar(matrix), atol=1e-4, rtol=0)
    assert torch.linalg.matrix_norm(found - u @ v, ord=2) < max(1 - LOWEST, HIGHEST - 1) + 1e-3
    off_diagonal = u.T @ found @ v.T
    assert (off_diagonal - torch.diag(off_diagonal.diagonal())).abs().max() < 1e-3


def test_an_orthogonal_matrix_keeps_its_directions():
    orthogonal = torch.linalg.qr(randn(16, 16, dtype=torch.float64))[0]
    found = polar(orthogonal[None])[0]
    scale = float(reached(torch.tensor([0.25]))[0])
    torch.testing.assert_close(found, scale * orthogonal, atol=1e-6, rtol=0)


def test_matrices_of_a_batch_do_not_see_each_other():
    batch = torch.stack([randn(6, 10, seed=seed) * 10.0**seed for seed in range(4)])
    together = polar(batch)
    for one, alone in zip(together, batch, strict=True):
        torch.testing.assert_close(one, polar(alone[None])[0], atol=1e-5, rtol=0)


def test_nothing_stays_nothing():
    assert not polar(torch.zeros(2, 4, 6)).any()


@given(st.integers(1, 10), st.integers(0, 20), st.integers(0, 10**6))
@settings(max_examples=40)
def test_any_random_matrix_equals_the_slow_twin(rows, more_columns, seed):
    matrix = 1000 * randn(rows, rows + more_columns, seed=seed)
    torch.testing.assert_close(polar(matrix[None])[0].double(), slow_polar(matrix), atol=2e-3, rtol=0)
