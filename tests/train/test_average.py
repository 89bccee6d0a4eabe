"""The mean of the weights against the same mean in plain numbers, and the exchange of both."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.train.average import WeightAverage


@pytest.fixture
def model(tiny_config) -> Llama:
    model = Llama(dataclasses.replace(tiny_config, carrier="qwen3"))
    initialize(model, seed=0)
    return model


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def move(model: nn.Module, seed: int) -> None:
    """Change the weights, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def update(average: WeightAverage, count: int, *, applies: bool = True) -> None:
    average.update(torch.tensor(float(count)), torch.tensor(applies))


def test_it_begins_as_the_weights_and_covers_them_all(model):
    average = WeightAverage(model, 0.9)
    assert average.means.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(average.means[name], weight) for name, weight in model.named_parameters())
    assert not any(mean.requires_grad for mean in average.means.values())
    move(model, 0)
    assert not any(torch.equal(average.means[name], weight) for name, weight in model.named_parameters())


def test_early_it_forgets_fast_and_later_slowly():
    """The share of the past is 2/11, 3/12, ..., until that reaches the decay."""
    model = nn.Linear(1, 1, bias=False)
    shares = []
    for count in (1, 2, 10, 90, 10_000):
        with torch.no_grad():
            model.weight.fill_(1.0)
        average = WeightAverage(model, 0.95)
        with torch.no_grad():
            model.weight.fill_(0.0)
        update(average, count)
        shares.append(float(average.means["weight"]))
    assert shares == pytest.approx([2 / 11, 3 / 12, 11 / 20, 91 / 100, 0.95], rel=1e-6)


@given(st.floats(0.01, 0.999), st.lists(st.floats(-10, 10), min_size=1, max_size=40))
@settings(max_examples=50)
def test_it_equals_the_mean_in_plain_numbers(decay, values):
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    average, expected = WeightAverage(model, decay), 3.0
    for count, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        update(average, count)
        share = min(decay, (1 + count) / (10 + count))
        expected = share * expected + (1 - share) * value
    assert float(average.means["weight"]) == pytest.approx(expected, abs=1e-4)


def test_an_update_that_does_not_apply_changes_nothing(model):
    average = WeightAverage(model, 0.9)
    move(model, 0)
    update(average, 1)
    before = copies(average.means)
    move(model, 1)
    update(average, 1, applies=False)
    assert all(torch.equal(mean, before[name]) for name, mean in average.means.items())


def test_in_place_the_network_computes_with_the_mean_and_gets_its_weights_back(model):
    average = WeightAverage(model, 0.9)
    move(model, 0)
    update(average, 1)
    weights, means = copies(dict(model.named_parameters())), copies(average.means)
    ids_BT = torch.arange(12).view(2, 6)
    plain = model(ids_BT)
    with average.in_place():
        assert all(torch.equal(weight, means[name]) for name, weight in model.named_parameters())
        assert not torch.allclose(model(ids_BT), plain)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    assert all(torch.equal(mean, means[name]) for name, mean in average.means.items())
    assert torch.equal(model(ids_BT), plain)


def test_the_weights_come_back_after_an_error_too(model):
    average = WeightAverage(model, 0.9)
    move(model, 0)
    weights = copies(dict(model.named_parameters()))
    with pytest.raises(RuntimeError, match="inside"), average.in_place():
        raise RuntimeError("inside")
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())


def test_the_parameters_are_the_same_objects_always(model):
    """A recorded graph holds their addresses."""
    average = WeightAverage(model, 0.9)
    places = {name: tensor.data_ptr() for name, tensor in [*model.named_parameters(), *average.state().items()]}
    update(average, 1)
    average.load_state({name: tensor.clone() for name, tensor in average.state().items()})
    with average.in_place():
        found = {name: tensor.data_ptr() for name, tensor in [*model.named_parameters(), *average.state().items()]}
    assert found == places


def test_its_state_comes_back(model):
    average = WeightAverage(model, 0.9)
    move(model, 0)
    update(average, 1)
    assert average.state().keys() == {f"mean.{name}" for name, _ in model.named_parameters()}
    again = WeightAverage(model, 0.9)
    again.load_state(copies(average.state()))
    for one in (average, again):
        update(one, 2)
    assert all(torch.equal(mean, again.means[name]) for name, mean in average.means.items())
