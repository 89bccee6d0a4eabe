"""Kernels that add in a fixed order are asked for only inside the block."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

from stentor.train.determinism import deterministic_kernels


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Put the switch and the variable back, whatever a test does."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "before")
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("before", [False, True])
def test_the_switch_is_on_inside_and_as_before_after(before):
    torch.use_deterministic_algorithms(before)
    with deterministic_kernels():
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before


def test_an_error_leaves_it_as_before():
    torch.use_deterministic_algorithms(False)
    with pytest.raises(RuntimeError, match="inside"), deterministic_kernels():
        raise RuntimeError("inside")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_workspace_is_set_only_where_nobody_chose_one(monkeypatch):
    with deterministic_kernels():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "before"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with deterministic_kernels():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_run_asks_for_them_where_its_recipe_does(tiny_recipe, tiny_shards, tmp_path, deterministic):

    from stentor.train.loop import train

    torch.use_deterministic_algorithms(False)
    changes = {"deterministic": deterministic, "tokens": 2 * 8 * 32}
    recipe = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, **changes))
    seen = []
    train(
        recipe,
        tiny_shards,
        tmp_path / "run",
        observer=lambda record: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert set(seen) == {deterministic}
    assert not torch.are_deterministic_algorithms_enabled()
