"""Initial weights: their distribution, their seed, and what stays 1."""

from __future__ import annotations

import pytest
import torch

from stentor.model.init import INITIAL_STD, initialize
from stentor.model.llama import Llama
from stentor.model.presets import preset


def initialized(seed: int = 0, initializer: str = "normal") -> Llama:
    model = Llama(preset("tiny"))
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


def test_the_seed_decides():
    for (name, one), (_, same), (_, other) in zip(
        initialized(3).named_parameters(),
        initialized(3).named_parameters(),
        initialized(4).named_parameters(),
        strict=True,
    ):
        assert torch.equal(one, same)
        if "norm" not in name:
            assert not torch.equal(one, other)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    initialized()
    assert torch.equal(torch.rand(1), expected)
