"""What a run would cost: exact where it can be, measured or estimated where it cannot."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from stentor.config import Recipe
from stentor.model.device import compute_dtype, pick_device
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.loss import shifted_loss
from stentor.train import plan as module
from stentor.train.plan import activation_bytes, plan


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave the measuring out: 1,000 tokens per second."""
    monkeypatch.setattr(module, "_measured_rate", lambda recipe, device: 1000.0)


def test_the_reference_budget_ends_exactly(unmeasured):
    planned = plan(Recipe.load("stentor2-12m"))
    assert planned.num_parameters == 12_294_400
    assert planned.num_tokens == 240_001_024
    assert planned.num_steps == 14_649
    assert planned.last_step_tokens == 8_192
    assert planned.seconds == pytest.approx(240_001.024)


@pytest.mark.parametrize(
    ("tokens", "num_steps", "last_step_tokens"), [(256, 1, 256), (32, 1, 32), (288, 2, 32), (512, 2, 256)]
)
def test_steps_and_the_last_step(unmeasured, tiny_recipe, tokens, num_steps, last_step_tokens):
    recipe = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, tokens=tokens))
    planned = plan(recipe)
    assert (planned.num_steps, planned.last_step_tokens, planned.num_tokens) == (num_steps, last_step_tokens, tokens)


def test_device_and_precision_are_those_of_training(unmeasured, tiny_recipe):
    for precision in ("auto", "float32", "bfloat16", "float16"):
        train = dataclasses.replace(tiny_recipe.train, precision=precision)
        planned = plan(dataclasses.replace(tiny_recipe, train=train))
        device = pick_device()
        assert planned.device == str(device)
        assert f"torch.{planned.precision}" == str(compute_dtype(precision, device))


def test_a_checkpoint_takes_about_as_much_as_the_plan_says(unmeasured, tiny_recipe, tiny_shards, tmp_path):
    from stentor.train.loop import train

    run = train(tiny_recipe, tiny_shards, tmp_path / "run")
    (folder, *_) = sorted((run / "checkpoints").iterdir())
    tensors = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert plan(tiny_recipe).disk_bytes / 4 == pytest.approx(tensors, rel=0.05)


def test_memory_is_weights_gradients_moments_and_activations(unmeasured, tiny_recipe):
    train = dataclasses.replace(tiny_recipe.train, precision="float32")
    recipe = dataclasses.replace(tiny_recipe, train=train)
    planned = plan(recipe)
    assert planned.memory_bytes == 16 * recipe.model.num_parameters + activation_bytes(recipe, 4)


def saved_bytes(recipe: Recipe) -> int:
    """Count what a micro-batch's graph holds for its backward pass, each piece of memory once."""
    model = Llama(recipe.model)
    initialize(model, seed=0)
    own = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), *model.buffers())}
    held: dict[int, int] = {}
    keep = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
            keep.append(tensor)
        return tensor

    shape = (recipe.train.micro_batch_size, recipe.model.max_position_embeddings)
    ids_BT = torch.randint(recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        shifted_loss(model, ids_BT, ids_BT)
    return sum(held.values())


@pytest.mark.parametrize(
    "changes", [{}, {"num_hidden_layers": 6}, {"intermediate_size": 256}, {"num_key_value_heads": 1}]
)
def test_activations_are_estimated_within_half(tiny_recipe, changes):
    recipe = dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, **changes))
    assert activation_bytes(recipe, 4) == pytest.approx(saved_bytes(recipe), rel=0.5)


def test_activations_grow_with_the_micro_batch_and_shrink_with_the_type(tiny_recipe):
    larger = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, micro_batch_size=6))
    assert activation_bytes(larger, 4) == 2 * activation_bytes(tiny_recipe, 4)
    assert activation_bytes(tiny_recipe, 2) < activation_bytes(tiny_recipe, 4)


def test_the_rate_is_measured_and_nothing_is_written(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan(tiny_recipe)
    assert 10 < planned.tokens_per_second < 1e9
    assert planned.seconds == pytest.approx(planned.num_tokens / planned.tokens_per_second)
    assert list(tmp_path.iterdir()) == []


def test_it_is_one_json_object(unmeasured, tiny_recipe):
    value = json.loads(json.dumps(plan(tiny_recipe).to_dict()))
    assert value["num_parameters"] == tiny_recipe.model.num_parameters
    assert value["tokens_per_second"] == 1000.0
