"""Batches: a pure function of the step, and a budget that ends exactly."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.config import Recipe
from stentor.model.ops import IGNORED_LABEL
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


def test_a_step_is_its_sequences(tiny_shards, tiny_recipe):
    batches = Batches(tiny_shards.train, tiny_recipe)
    for step, size in ((0, 8), (11, 8), (12, 4)):
        inputs_BT, labels_BT = batches.of_step(step)
        assert inputs_BT.dtype == labels_BT.dtype == torch.int64
        assert inputs_BT.shape == labels_BT.shape == (size, 32)


def test_labels_are_the_inputs_but_for_padding(tiny_shards, tiny_recipe):
    batches = Batches(tiny_shards.train, tiny_recipe)
    for step in range(13):
        inputs_BT, labels_BT = batches.of_step(step)
        is_scored = labels_BT != IGNORED_LABEL
        assert torch.equal(labels_BT[is_scored], inputs_BT[is_scored])
        assert is_scored.any(dim=1).all()


def test_a_step_does_not_depend_on_the_steps_before(tiny_shards, tiny_recipe):
    running, fresh = Batches(tiny_shards.train, tiny_recipe), Batches(tiny_shards.train, tiny_recipe)
    all_steps = [running.of_step(step) for step in range(13)]
    for step in (12, 0, 7):
        for ours, theirs in zip(all_steps[step], fresh.of_step(step), strict=True):
            assert torch.equal(ours, theirs)


def test_the_micro_batch_size_does_not_change_the_sequences(tiny_shards, tiny_recipe):
    train = dataclasses.replace(tiny_recipe.train, micro_batch_size=8)
    other = Batches(tiny_shards.train, dataclasses.replace(tiny_recipe, train=train))
    ours = Batches(tiny_shards.train, tiny_recipe)
    assert all(torch.equal(ours.of_step(step)[0], other.of_step(step)[0]) for step in range(13))


def test_the_step_size_does_not_change_the_order(tiny_shards, tiny_recipe):
    train = dataclasses.replace(tiny_recipe.train, global_batch_tokens=5 * 32)
    other = Batches(tiny_shards.train, dataclasses.replace(tiny_recipe, train=train))
    ours = Batches(tiny_shards.train, tiny_recipe)
    streams = [torch.cat([b.of_step(step)[0] for step in range(b.budget.num_steps)]) for b in (ours, other)]
    assert torch.equal(*streams)
    assert len(streams[0]) == 100


def test_an_epoch_shows_every_sequence_once(tiny_shards, tiny_recipe):
    batches = Batches(tiny_shards.train, tiny_recipe)
    per_epoch = batches.budget.num_sequences / batches.num_epochs
    tokens = tiny_shards.train.num_tokens
    assert per_epoch == pytest.approx(-(-tokens // 32))


def test_the_seed_changes_the_order(tiny_shards, tiny_recipe):
    other = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, seed=1))
    first = Batches(tiny_shards.train, tiny_recipe).of_step(0)[0]
    assert not torch.equal(first, Batches(tiny_shards.train, other).of_step(0)[0])
