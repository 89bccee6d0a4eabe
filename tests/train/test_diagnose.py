"""The tensor that stopped being numbers is named as every file names it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stentor.config import Recipe
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.train.build import make_model
from stentor.train.diagnose import first_non_finite

PLAIN = {"micro_batch_size": 3, "document_separator": None}


@pytest.fixture
def recipe(tiny_recipe) -> Recipe:
    train = dataclasses.replace(tiny_recipe.train, precision="float32", micro_batch_size=2)
    return dataclasses.replace(tiny_recipe, train=train)


@pytest.fixture
def model(recipe) -> Llama:
    model = make_model(recipe, torch.device("cpu"))
    initialize(model, seed=0)
    return model


@pytest.fixture
def ids_BT(recipe) -> torch.Tensor:
    return torch.randint(recipe.model.vocab_size, (5, 32), generator=torch.Generator().manual_seed(0))


def test_where_all_is_finite_nothing_is_named(model, ids_BT, recipe):
    assert first_non_finite(model, ids_BT, ids_BT, **PLAIN) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_is_named(model, ids_BT, recipe, value):
    with torch.no_grad():
        model.gate_up_LFD[1, 64 + 3, 5] = value  # below the 64 rows of the gate lies up
    said = first_non_finite(model, ids_BT, ids_BT, **PLAIN)
    assert said == "the weights of model.layers.1.mlp.up_proj.weight hold values that are not finite"


def test_any_single_bad_value_is_found(model, ids_BT, recipe):
    for name, parameter in model.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] = float("nan")
        named = to_hugging_face(model.config, dict(model.named_parameters()))
        (expected,) = [n for n, tensor in named.items() if not torch.isfinite(tensor).all()]
        assert expected in first_non_finite(model, ids_BT, ids_BT, **PLAIN), name
        with torch.no_grad():
            parameter.copy_(kept)


def test_a_gradient_is_named_where_the_weights_are_finite(model, ids_BT, recipe):
    model.down_LDF.register_hook(lambda grad: torch.full_like(grad, float("inf")))
    said = first_non_finite(model, ids_BT, ids_BT, **PLAIN)
    assert said == "the gradient of model.layers.0.mlp.down_proj.weight is not finite"


def test_a_gradient_that_only_one_micro_batch_spoils_is_found(model, ids_BT, recipe):
    """Two sequences at a time: the fifth is on its own."""
    ids_BT[4] = 7
    ids_BT[:4][ids_BT[:4] == 7] = 8
    with torch.no_grad():
        model.embedding_VD[7] = 1e38  # finite, but not its square
    assert "is not finite" in first_non_finite(model, ids_BT, ids_BT, **PLAIN)
    assert first_non_finite(model, ids_BT[:4], ids_BT[:4], **PLAIN).count("gradient") <= 1


def test_norms_that_are_not_learned_are_no_obstacle(ids_BT, recipe):
    frozen = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, learns_norms=False))
    model = make_model(frozen, torch.device("cpu"))
    initialize(model, seed=0)
    model.embedding_VD.register_hook(lambda grad: grad * float("nan"))
    said = first_non_finite(model, ids_BT, ids_BT, **PLAIN)
    assert said == "the gradient of model.embed_tokens.weight is not finite"


def test_the_gradients_are_gone_afterwards(model, ids_BT, recipe):
    first_non_finite(model, ids_BT, ids_BT, **PLAIN)
    assert all(parameter.grad is None for parameter in model.parameters())
