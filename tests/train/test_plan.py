"""What a run would cost: exact where it can be, measured or estimated where it cannot."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from stentor.config import Recipe
from stentor.errors import UserError
from stentor.model.device import compute_dtype, pick_device
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.loss import shifted_loss
from stentor.model.ops import Way
from stentor.train import plan as module
from stentor.train.average import WeightAverage
from stentor.train.build import make_model, make_step
from stentor.train.plan import activation_bytes, explained_memory, memory_bytes, plan, require_memory

FULL = {"optimizer": "muon", "average_decay": 0.9, "fake_quantize": "int8", "float32_parts": "ends"}


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


@pytest.mark.parametrize("changes", [{}, {"average_decay": 0.9}, {"optimizer": "muon"}])
def test_a_checkpoint_takes_about_as_much_as_the_plan_says(unmeasured, tiny_recipe, tiny_shards, tmp_path, changes):
    from stentor.train.loop import train

    changes = {"tokens": 8 * 32, **changes}
    recipe = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, **changes))
    run = train(recipe, tiny_shards, tmp_path / "run")
    (folder, *_) = sorted((run / "checkpoints").iterdir())
    tensors = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert plan(recipe).disk_bytes / 4 == pytest.approx(tensors, rel=0.05)


def test_memory_is_weights_gradients_moments_and_activations(unmeasured, tiny_recipe):
    train = dataclasses.replace(tiny_recipe.train, precision="float32")
    recipe = dataclasses.replace(tiny_recipe, train=train)
    planned = plan(recipe)
    assert planned.memory_bytes == memory_bytes(recipe, torch.float32)
    assert planned.memory_bytes == 16 * recipe.model.num_parameters + activation_bytes(recipe, 4)


@pytest.mark.parametrize("changes", [{}, {"average_decay": 0.9}, {"optimizer": "muon"}, FULL])
def test_memory_is_what_a_checkpoint_holds_and_gradients(tiny_recipe, changes):
    """Counted on the parts themselves: weights, all of the step's state, and a gradient for each weight."""
    train = dataclasses.replace(tiny_recipe.train, **changes)
    recipe = dataclasses.replace(tiny_recipe, train=train)
    model = make_model(recipe, torch.device("cpu"))
    average = WeightAverage(model, train.average_decay) if train.average_decay else None
    state = make_step(model, average, recipe, eos_token_id=0).state()
    expected = 4 * sum(tensor.numel() for tensor in (*model.parameters(), *model.parameters(), *state.values()))
    found = memory_bytes(recipe, torch.float32) - activation_bytes(recipe, 4)
    assert found == pytest.approx(expected, rel=0.01)


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
def test_activations_are_estimated_within_half(tiny_recipe, changes, monkeypatch):
    """As plain operations keep them; the loops for the CPU keep less."""
    recipe = dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, **changes))
    fused = saved_bytes(recipe)
    monkeypatch.setattr(Llama, "way", Way.PLAIN)
    plain = saved_bytes(recipe)
    assert activation_bytes(recipe, 4) == pytest.approx(plain, rel=0.5)
    assert fused < plain


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


def test_running_out_of_memory_proposes_half_the_micro_batch(tiny_recipe):
    with (
        pytest.raises(UserError, match="micro-batches of 3 sequences do not fit") as caught,
        explained_memory(tiny_recipe),
    ):
        raise torch.OutOfMemoryError("tried to allocate\nmore")
    assert "set train.micro_batch_size=1: steps keep their 256 tokens" in caught.value.fix
    assert "\n" not in caught.value.message


def test_running_out_of_memory_with_one_sequence_proposes_a_smaller_model(tiny_recipe):
    recipe = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, micro_batch_size=1))
    with pytest.raises(UserError, match="micro-batches of 1 sequences") as caught, explained_memory(recipe):
        raise torch.OutOfMemoryError("tried to allocate")
    assert "a smaller model" in caught.value.fix


def test_other_errors_are_not_explained(tiny_recipe):
    with pytest.raises(RuntimeError, match="another"), explained_memory(tiny_recipe):
        raise RuntimeError("another")


def test_a_model_that_memory_cannot_hold_is_refused(tiny_recipe, monkeypatch):
    monkeypatch.setattr(module, "_machine_bytes", lambda device: 10_000)
    with pytest.raises(UserError, match=r"micro-batches of 3 x 32 tokens takes about 0\.0 GB") as caught:
        plan(tiny_recipe)
    assert "train.micro_batch_size" in caught.value.fix
    monkeypatch.setattr(module, "_machine_bytes", lambda device: None)
    require_memory(tiny_recipe, torch.device("cpu"))


def test_the_rate_is_that_of_the_numerics_of_the_recipe(tiny_recipe, monkeypatch):
    made = []
    real = module.make_model
    monkeypatch.setattr(module, "make_model", lambda *args: made.append(real(*args)) or made[-1])
    plan(dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, **FULL)))
    (model,) = made
    assert model.numerics.fake_quantizes
    assert model.numerics.float32_parts == "ends"
