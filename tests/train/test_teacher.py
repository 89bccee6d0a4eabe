"""A teacher is read once, checked against the student, and heard in every step; a run keeps the one it began with."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UserError
from stentor.model.init import initialize
from stentor.train import loop
from stentor.train.build import make_model, make_step
from stentor.train.loop import train
from stentor.train.schedule import Rates
from stentor.train.teacher import load_teacher

CPU = torch.device("cpu")


def with_train(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


def taught(recipe: Recipe, teacher, **changes) -> Recipe:
    return with_train(recipe, teachers=(str(teacher),), **changes)


def records(run_dir, kind: str) -> list[dict]:
    return [r for r in map(json.loads, (run_dir / "log.jsonl").read_text().splitlines()) if r["kind"] == kind]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny_recipe, tiny_shards):
    """Return a wider network, trained on the same tokens."""
    recipe = dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, num_hidden_layers=3))
    return train(recipe, tiny_shards, tmp_path_factory.mktemp("teacher") / "run")


@pytest.fixture(scope="module")
def pupil(tmp_path_factory, tiny_recipe, tiny_shards, teacher):
    return train(taught(tiny_recipe, teacher), tiny_shards, tmp_path_factory.mktemp("pupil") / "run")


def test_a_recipe_names_none_by_default(tiny_recipe, tiny_shards):
    assert load_teacher(tiny_recipe, tiny_shards.tokenizer, CPU) is None


def test_it_is_the_best_checkpoint_of_its_run_and_is_not_trained(tiny_recipe, tiny_shards, teacher):
    loaded = load_teacher(taught(tiny_recipe, teacher, teacher_share=0.7), tiny_shards.tokenizer, CPU)
    assert loaded
    assert loaded.share == 0.7
    assert loaded.models[0].config.num_hidden_layers == 3
    assert not any(parameter.requires_grad for parameter in loaded.models[0].parameters())


def test_a_step_learns_from_it(tiny_recipe, tiny_shards, teacher):
    """The loss that is reported is that of the text; the update is another one."""
    recipe = taught(tiny_recipe, teacher, precision="float32")
    ids = torch.randint(1, recipe.model.vocab_size, (8, 32), generator=torch.Generator().manual_seed(0))
    results = []
    for loaded in (None, load_teacher(recipe, tiny_shards.tokenizer, CPU)):
        model = make_model(recipe, CPU)
        initialize(model, seed=0)
        step = make_step(model, None, recipe, eos_token_id=0, teacher=loaded)
        step.run(ids, ids, Rates(1.0, 0.9))
        results.append((step.outcomes()[0], model.qkv_LED.detach().clone()))
    (alone, weights), (beside, other_weights) = results
    assert beside.loss_nats == pytest.approx(alone.loss_nats, rel=1e-6)
    assert beside.grad_norm != alone.grad_norm
    assert not torch.equal(weights, other_weights)


def test_the_log_says_how_large_it_is(pupil, teacher):
    start = records(pupil, "start")[0]
    assert start["num_teacher_parameters"] > start["num_parameters"]
    assert records(teacher, "start")[0]["num_teacher_parameters"] == 0
    trained = records(pupil, "train")
    assert trained[-1]["loss_nats"] < trained[0]["loss_nats"] - 0.5


def test_a_stopped_run_goes_on_with_it_bit_for_bit(tiny_recipe, tiny_shards, teacher, pupil, tmp_path, monkeypatch):
    recipe, run = taught(tiny_recipe, teacher), tmp_path / "run"
    calls = iter([False] * 5 + [True])

    class Stops:
        def __enter__(self):
            return lambda: next(calls)

        def __exit__(self, *_):
            return None

    with monkeypatch.context() as patched:
        patched.setattr(loop, "stop_requests", Stops)
        with pytest.raises(InterruptedRunError):
            train(recipe, tiny_shards, run)
    train(recipe, tiny_shards, run)
    last = "checkpoints/step-0000013/model.safetensors"
    assert (run / last).read_bytes() == (pupil / last).read_bytes()


def test_a_run_does_not_go_on_with_another_teacher(tiny_recipe, tiny_shards, teacher, pupil, tmp_path):
    """The recipe is the same, for the path is; the weights behind it are not."""
    copied, run = tmp_path / "teacher", tmp_path / "run"
    shutil.copytree(teacher, copied)
    shutil.copytree(pupil, run)
    recipe = taught(tiny_recipe, copied)
    write_file(run / "recipe.toml", recipe.to_toml())
    for step in copied.glob("checkpoints/step-*"):
        data = bytearray((step / "model.safetensors").read_bytes())
        data[-4] ^= 1
        (step / "model.safetensors").write_bytes(bytes(data))
        (step / "manifest.json").unlink()
    with pytest.raises(UserError, match="learned from other weights"):
        train(recipe, tiny_shards, run)


def test_two_are_heard_in_every_step_and_both_are_counted(tiny_recipe, tiny_shards, teacher, pupil, tmp_path):
    recipe = with_train(tiny_recipe, teachers=(str(teacher), str(pupil)))
    run = train(recipe, tiny_shards, tmp_path / "run")
    assert Recipe.load(run / "recipe.toml") == recipe
    sizes = [records(path, "start")[0]["num_parameters"] for path in (teacher, pupil)]
    assert records(run, "start")[0]["num_teacher_parameters"] == sum(sizes)
    one = load_teacher(taught(tiny_recipe, teacher), tiny_shards.tokenizer, CPU)
    both = load_teacher(recipe, tiny_shards.tokenizer, CPU)
    assert one
    assert both
    assert one.sha256 != both.sha256


def test_a_student_may_begin_as_a_part_of_it(tiny_recipe, tiny_shards, teacher, tmp_path):
    """What is first measured is the part itself: it predicts better than random weights, which know nothing."""
    begun = {
        initializer: train(
            taught(tiny_recipe, teacher, initializer=initializer, tokens=32 * 8, global_batch_tokens=32 * 8),
            tiny_shards,
            tmp_path / initializer,
        )
        for initializer in ("normal", "teacher")
    }
    first = {name: records(run, "train")[0]["loss_nats"] for name, run in begun.items()}
    assert first["teacher"] < first["normal"] - 0.1


def test_it_must_be_large_enough_for_its_student_to_be_a_part(tiny_recipe, tiny_shards, teacher):
    model = dataclasses.replace(tiny_recipe.model, num_hidden_layers=4)
    recipe = dataclasses.replace(taught(tiny_recipe, teacher, initializer="teacher"), model=model)
    with pytest.raises(UserError, match="num_hidden_layers of 4 cannot begin as a part of one with 3"):
        load_teacher(recipe, tiny_shards.tokenizer, CPU)


def test_there_is_no_part_of_nobody(tiny_recipe):
    with pytest.raises(UserError, match="names none"):
        with_train(tiny_recipe, initializer="teacher")


def test_there_must_be_one(tiny_recipe, tiny_shards, tmp_path):
    with pytest.raises(UserError, match=r"the teacher .*nowhere cannot be read: there is no model") as raised:
        load_teacher(taught(tiny_recipe, tmp_path / "nowhere"), tiny_shards.tokenizer, CPU)
    assert "stentor train nowhere" in str(raised.value)


def test_it_must_read_the_students_tokens(tiny_recipe, tiny_tokenmonster, teacher):
    with pytest.raises(UserError, match="reads other tokens than the student"):
        load_teacher(taught(tiny_recipe, teacher), tiny_tokenmonster, CPU)


@pytest.mark.parametrize("changes", [{"vocab_size": 512}, {"max_position_embeddings": 64}])
def test_it_must_be_of_the_students_sizes(tiny_recipe, tiny_shards, teacher, changes):
    model = dataclasses.replace(tiny_recipe.model, **changes)
    recipe = dataclasses.replace(taught(tiny_recipe, teacher), model=model)
    with pytest.raises(UserError, match=f"the student one of {next(iter(changes.values()))}"):
        load_teacher(recipe, tiny_shards.tokenizer, CPU)


def test_its_share_is_a_share(tiny_recipe):
    with pytest.raises(UserError, match=r"train.teacher_share is 1.5"):
        with_train(tiny_recipe, teacher_share=1.5)
