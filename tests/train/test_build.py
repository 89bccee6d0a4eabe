"""A recipe's words reach the network, the optimizers and the step."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stentor.config import Recipe
from stentor.model.device import compute_dtype
from stentor.model.init import initialize, is_norm
from stentor.model.llama import Llama
from stentor.train import step as step_module
from stentor.train.average import WeightAverage
from stentor.train.build import make_model, make_step
from stentor.train.schedule import Rates

CPU = torch.device("cpu")
RATES = Rates(1.0, 0.9)


def with_train(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


def built(recipe: Recipe) -> Llama:
    model = make_model(recipe, CPU)
    initialize(model, seed=0, initializer=recipe.train.initializer)
    return model


def ids(recipe: Recipe, num_sequences: int, seed: int = 0) -> torch.Tensor:
    shape = (num_sequences, recipe.model.max_position_embeddings)
    return torch.randint(1, recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("float32_parts", ["none", "embedding", "ends"])
def test_the_network_computes_as_the_recipe_says(tiny_recipe, precision, float32_parts):
    model = built(with_train(tiny_recipe, precision=precision, float32_parts=float32_parts))
    assert model.numerics.compute_dtype is compute_dtype(precision, CPU)
    assert model.numerics.float32_parts == float32_parts
    assert not model.numerics.fake_quantizes
    logits = model(ids(tiny_recipe, 1))
    assert logits.dtype is (model.numerics.compute_dtype if float32_parts == "none" else torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_int8_is_felt_where_the_recipe_asks_for_it(tiny_recipe):
    recipe = with_train(tiny_recipe, precision="float32")
    plain, rounded = built(recipe), built(with_train(recipe, fake_quantize="int8"))
    assert rounded.numerics.fake_quantizes
    for (name, ours), (_, theirs) in zip(plain.named_parameters(), rounded.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    difference = (plain(ids(recipe, 2)) - rounded(ids(recipe, 2))).abs().max()
    assert 1e-7 < difference < 1e-2


@pytest.mark.parametrize("learns_norms", [True, False])
def test_norms_are_learned_or_not(tiny_recipe, learns_norms):
    model = built(with_train(tiny_recipe, learns_norms=learns_norms))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name, _ in model.named_parameters() if learns_norms or not is_norm(name)}
    assert trained == expected


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("average_decay", [0.0, 0.9])
def test_the_step_keeps_what_the_recipe_asks_for(tiny_recipe, optimizer, average_decay):
    recipe = with_train(tiny_recipe, optimizer=optimizer, average_decay=average_decay, precision="float16")
    model = built(recipe)
    average = WeightAverage(model, average_decay) if average_decay else None
    names = make_step(model, average, recipe, eos_token_id=0).state().keys()
    assert ("momentum.qkv_LED" in names) == (optimizer == "muon")
    assert ("exp_avg.qkv_LED" in names) == (optimizer == "adamw")
    assert ("mean.qkv_LED" in names) == bool(average_decay)
    assert "loss_scale" in names


def test_the_step_makes_micro_batches_of_the_size_asked_for(tiny_recipe, monkeypatch):
    sizes, real = [], step_module.shifted_loss

    def counted(model, inputs_BT, labels_BT, **more):
        sizes.append(len(inputs_BT))
        return real(model, inputs_BT, labels_BT, **more)

    monkeypatch.setattr(step_module, "shifted_loss", counted)
    for size in (3, 8, 100):
        recipe = with_train(tiny_recipe, micro_batch_size=size)
        make_step(built(recipe), None, recipe, eos_token_id=0).run(ids(recipe, 8), ids(recipe, 8), RATES)
    assert sizes == [3, 3, 2, 8, 8]


def test_clipping_is_that_of_the_recipe(tiny_recipe):
    """AdamW's first moment after one update is a tenth of the clipped gradient."""
    norms = []
    for max_grad_norm in (0.01, 1e6):
        recipe = with_train(tiny_recipe, max_grad_norm=max_grad_norm, precision="float32")
        model = built(recipe)
        step = make_step(model, None, recipe, eos_token_id=0)
        step.run(ids(recipe, 8), ids(recipe, 8), RATES)
        (outcome,) = step.outcomes()
        moments = [tensor for name, tensor in step.state().items() if name.startswith("exp_avg.")]
        norms.append((float(torch.nn.utils.get_total_norm(moments)) / (1 - recipe.train.beta1), outcome.grad_norm))
    assert norms[0][0] == pytest.approx(0.01, rel=1e-4)
    assert norms[1][0] == pytest.approx(norms[1][1], rel=1e-4)
    assert norms[0][1] == pytest.approx(norms[1][1], rel=1e-6), "what is reported is the norm before clipping"


def test_attention_stays_within_documents_only_where_asked(tiny_recipe):
    found = []
    for mask in (False, True):
        recipe = with_train(tiny_recipe, mask_across_documents=mask, precision="float32")
        inputs = ids(recipe, 8)
        inputs[:, 10] = 0
        step = make_step(built(recipe), None, recipe, eos_token_id=0)
        step.run(inputs, inputs, RATES)
        found += step.outcomes()
    assert found[0].loss_nats != found[1].loss_nats


def test_a_budget_smaller_than_a_step_is_one_small_step(tiny_recipe):
    recipe = with_train(tiny_recipe, tokens=2 * 32)
    step = make_step(built(recipe), None, recipe, eos_token_id=0)
    step.run(ids(recipe, 2), ids(recipe, 2), RATES)
    assert step.outcomes()[0].went_on
