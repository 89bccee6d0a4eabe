"""Batches: a pure function of the step, and a budget that ends exactly."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.config import Recipe
from stentor.train.batches import Batches, Budget


def test_the_reference_ends_with_half_a_step():
    budget = Budget.of(Recipe.load("stentor2-12m"))
    assert budget.num_steps == 14_649
    assert budget.sequences_before(14_648) * 1024 == 14_648 * 16_384
    assert (budget.num_sequences - budget.sequences_before(14_648)) * 1024 == 8_192
    assert budget.sequences_before(14_649) * 1024 == 240_001_024


@given(st.integers(1, 1000), st.integers(1, 40))
def test_steps_tile_the_budget(num_sequences, per_step):
    budget = Budget(num_sequences, per_step)
    sizes = [budget.sequences_before(s + 1) - budget.sequences_before(s) for s in range(budget.num_steps)]
    assert sum(sizes) == num_sequences
    assert all(size == per_step for size in sizes[:-1])
    assert 1 <= sizes[-1] <= per_step


def test_a_step_is_cut_into_micro_batches(tiny_shards, tiny_recipe):
    batches = Batches(tiny_shards.train, tiny_recipe)
    assert [len(inputs_BT) for inputs_BT, _ in batches.micro_batches(0)] == [3, 3, 2]
    assert [len(inputs_BT) for inputs_BT, _ in batches.micro_batches(12)] == [3, 1]
    for inputs_BT, labels_BT in batches.micro_batches(0):
        assert inputs_BT.dtype == labels_BT.dtype == torch.int64
        assert inputs_BT.shape == labels_BT.shape == (inputs_BT.shape[0], 32)


def test_a_step_does_not_depend_on_the_steps_before(tiny_shards, tiny_recipe):
    running, fresh = Batches(tiny_shards.train, tiny_recipe), Batches(tiny_shards.train, tiny_recipe)
    all_steps = [list(running.micro_batches(step)) for step in range(13)]
    for step in (12, 0, 7):
        for (inputs, labels), (same_inputs, same_labels) in zip(
            all_steps[step], fresh.micro_batches(step), strict=True
        ):
            assert torch.equal(inputs, same_inputs)
            assert torch.equal(labels, same_labels)


def test_the_micro_batch_size_does_not_change_the_sequences(tiny_shards, tiny_recipe):
    train = dataclasses.replace(tiny_recipe.train, micro_batch_size=8)
    whole = Batches(tiny_shards.train, dataclasses.replace(tiny_recipe, train=train))
    pieces = Batches(tiny_shards.train, tiny_recipe)
    for step in range(13):
        together = torch.cat([inputs for inputs, _ in pieces.micro_batches(step)])
        assert torch.equal(together, next(iter(whole.micro_batches(step)))[0])


def test_an_epoch_shows_every_sequence_once(tiny_shards, tiny_recipe):
    batches = Batches(tiny_shards.train, tiny_recipe)
    per_epoch = batches.budget.num_sequences / batches.num_epochs
    tokens = tiny_shards.train.num_tokens
    assert per_epoch == pytest.approx(-(-tokens // 32))


def test_the_seed_changes_the_order(tiny_shards, tiny_recipe):
    other = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, seed=1))
    first = next(iter(Batches(tiny_shards.train, tiny_recipe).micro_batches(0)))[0]
    assert not torch.equal(first, next(iter(Batches(tiny_shards.train, other).micro_batches(0)))[0])
