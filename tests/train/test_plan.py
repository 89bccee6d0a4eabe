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
from stentor.train.distributed import World
from stentor.train.plan import activation_bytes, disk_bytes, explained_memory, memory_bytes, plan, require_memory

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


def test_what_teachers_expect_takes_the_disk_only_where_it_is_kept(tiny_recipe):
    def bytes_of(**changes):
        changed = dataclasses.replace(tiny_recipe.train, **changes)
        return disk_bytes(dataclasses.replace(tiny_recipe, train=changed), num_train_tokens=1000)

    assert bytes_of(teachers=("runs/t",), expectations_kept=32) == bytes_of() + 128_000
    assert bytes_of(teachers=("runs/t",)) == bytes_of(expectations_kept=32) == bytes_of()


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
    model = make_model(recipe, torch.device("cpu"))
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
    train = dataclasses.replace(tiny_recipe.train, precision="float32")
    model = dataclasses.replace(tiny_recipe.model, **changes)
    recipe = dataclasses.replace(tiny_recipe, model=model, train=train)
    fused = saved_bytes(recipe)
    monkeypatch.setattr(Llama, "way", Way.PLAIN)
    plain = saved_bytes(recipe)
    assert activation_bytes(recipe, 4) == pytest.approx(plain, rel=0.5)
    assert fused < plain


@pytest.mark.parametrize(("precision", "bytes_per_value"), [("float16", 2), ("float32", 4)])
def test_the_references_activations_are_estimated_within_a_tenth(precision, bytes_per_value, monkeypatch):
    """Its own shape, context and numerics, one sequence: what is saved, and two gradients of the logits on top."""
    monkeypatch.setattr(Llama, "way", Way.PLAIN)
    recipe = Recipe.load("stentor2-12m", overrides={"train.precision": precision, "train.micro_batch_size": 1})
    gradients = 2 * 4 * recipe.model.max_position_embeddings * recipe.model.vocab_size
    assert activation_bytes(recipe, bytes_per_value) == pytest.approx(saved_bytes(recipe) + gradients, rel=0.1)


def test_the_reference_fits_a_t4_many_times_over():
    """8 sequences of 1,024 tokens in float16: a T4 has 15 GB."""
    recipe = Recipe.load("stentor2-12m", overrides={"train.precision": "float16"})
    assert recipe.train.micro_batch_size == 8
    assert 2.2e9 < memory_bytes(recipe, torch.float16) < 2.6e9


def test_what_stays_in_float32_is_counted_in_float32(tiny_recipe):
    kept = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, float32_parts="embedding"))
    tokens = 3 * tiny_recipe.model.max_position_embeddings
    streams = tokens * tiny_recipe.model.num_hidden_layers * 4 * tiny_recipe.model.hidden_size
    assert activation_bytes(kept, 2) - activation_bytes(tiny_recipe, 2) == 2 * streams
    assert activation_bytes(kept, 4) == activation_bytes(tiny_recipe, 4)


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


def test_a_cpu_that_has_no_memory_is_told_the_same(tiny_recipe):
    with pytest.raises(UserError, match=r"do not fit .*DefaultCPUAllocator: can't allocate") as caught:  # noqa: SIM117
        with explained_memory(tiny_recipe):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
    assert "set train.micro_batch_size=1: steps keep their 256 tokens" in caught.value.fix


def test_running_out_of_memory_while_planning_is_explained(tiny_recipe, monkeypatch):
    def measured(recipe, device):
        raise torch.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr(module, "_measured_rate", measured)
    with pytest.raises(UserError, match="micro-batches of 3 sequences do not fit"):
        plan(tiny_recipe)


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


def test_several_processes_share_a_step_and_each_needs_its_memory(unmeasured, tiny_recipe, monkeypatch):
    monkeypatch.setattr(module, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(World, "total", lambda world, number: world.size * number)
    alone, four = plan(tiny_recipe), plan(tiny_recipe, World(size=4))
    assert (alone.num_processes, four.num_processes) == (1, 4)
    assert four.tokens_per_second == 4 * alone.tokens_per_second
    smaller = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, micro_batch_size=2))
    assert four.memory_bytes == plan(smaller).memory_bytes < alone.memory_bytes  # 8 sequences a step


def test_memory_of_a_machine_is_for_all_of_its_processes(tiny_recipe, monkeypatch):
    dtype, device = compute_dtype("float32", torch.device("cpu")), torch.device("cpu")
    recipe = dataclasses.replace(
        tiny_recipe, train=dataclasses.replace(tiny_recipe.train, precision="float32", micro_batch_size=1)
    )
    monkeypatch.setattr(module, "_machine_bytes", lambda device: 2 * memory_bytes(recipe, dtype))
    require_memory(recipe, device, World(0, 2, 0, 2))
    require_memory(recipe, device, World(0, 4, 0, 2))
    with pytest.raises(UserError, match="in 3 processes takes about"):
        require_memory(recipe, device, World(0, 3, 0, 3))
