"""Checkpoints: everything comes back bit for bit, the right ones are kept, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save
from sealing import seal_anew

from stentor.artifacts import MANIFEST_NAME, staged_directory, verify_directory, write_file
from stentor.config import Recipe
from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.folder import read_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.tokenizer import Tokenizer
from stentor.train.average import WeightAverage
from stentor.train.build import make_model, make_step
from stentor.train.checkpoint import (
    STATE_NAME,
    TrainingState,
    load_latest,
    restore,
    save_checkpoint,
    settle,
)
from stentor.train.schedule import Rates
from stentor.train.step import Step

START = TrainingState(data_sha256="ab" * 32)
KINDS = {
    "adamw": {},
    "muon": {"optimizer": "muon"},
    "all": {"optimizer": "muon", "average_decay": 0.9, "precision": "float16", "learns_norms": False},
    "adamw, averaged": {"average_decay": 0.9},
}
_UPDATE = Rates(1.0, 0.9)


class Parts(NamedTuple):
    """What a checkpoint is of."""

    model: Llama
    step: Step
    average: WeightAverage | None

    @classmethod
    def of(cls, recipe: Recipe, *, seed: int) -> Parts:
        model = make_model(recipe, torch.device("cpu"))
        initialize(model, seed=seed)
        average = WeightAverage(model, recipe.train.average_decay) if recipe.train.average_decay else None
        return cls(model, make_step(model, average, recipe, eos_token_id=0), average)

    def update(self, seed: int) -> None:
        """Make one update on random tokens."""
        shape = (4, self.model.config.max_position_embeddings)
        ids_BT = torch.randint(self.model.config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
        self.step.run(ids_BT, ids_BT, _UPDATE)

    def save(self, run: Path, tokenizer: Tokenizer, **state) -> Path:
        return save_checkpoint(run, *self, dataclasses.replace(START, **state), tokenizer)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return a copy of every weight and of every tensor of the training state."""
        tensors = {**self.model.state_dict(), **{f"state.{name}": t for name, t in self.step.state().items()}}
        return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.fixture(params=["llama", "qwen3, untied"])
def config(request, tiny_config) -> ModelConfig:
    if request.param == "llama":
        return tiny_config
    return dataclasses.replace(tiny_config, carrier="qwen3", tie_word_embeddings=False, num_key_value_heads=1)


@pytest.fixture(params=KINDS)
def recipe(request, config, tiny_recipe) -> Recipe:
    train = dataclasses.replace(tiny_recipe.train, **{"precision": "float32", **KINDS[request.param]})
    return dataclasses.replace(tiny_recipe, model=config, train=train)


@pytest.fixture
def trained(recipe) -> Parts:
    """Return what a run is made of, after three updates."""
    parts = Parts.of(recipe, seed=1)
    for seed in range(3):
        parts.update(seed)
    return parts


@pytest.fixture
def plain(tiny_recipe) -> Recipe:
    return dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, precision="float32"))


@pytest.fixture
def save_at(tmp_path, plain, tiny_tokenizer):
    """Return a function that saves a tiny model as of a step, with the best step so far."""
    parts = Parts.of(plain, seed=2)
    parts.update(0)

    def save_one(step: int, best_step: int = 0) -> Path:
        loss = 1.0 if best_step else None
        return parts.save(tmp_path, tiny_tokenizer, step=step, best_step=best_step, best_loss_nats=loss)

    return save_one


def assert_same(ours: Parts, theirs: Parts) -> None:
    expected, found = theirs.tensors(), ours.tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def kept(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


def named(run: Path) -> tuple[int, int]:
    best, latest = (json.loads((run / name).read_text())["step"] for name in ("best.json", "latest.json"))
    return best, latest


# --- what is saved comes back ---


def test_everything_comes_back_bit_for_bit(trained, recipe, tiny_tokenizer, tmp_path):
    before = trained.tensors()
    folder = trained.save(tmp_path, tiny_tokenizer, step=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.tensors().items()), "saving changed it"
    again = Parts.of(recipe, seed=9)
    restore(folder, *again)
    assert_same(again, trained)


def test_the_next_updates_are_the_same_bit_for_bit(trained, recipe, tiny_tokenizer, tmp_path):
    folder = trained.save(tmp_path, tiny_tokenizer, step=3)
    again = Parts.of(recipe, seed=9)
    restore(folder, *again)
    trained.step.outcomes()
    for seed in (7, 8):
        trained.update(seed)
        again.update(seed)
    assert_same(again, trained)
    assert again.step.outcomes() == trained.step.outcomes()


def test_every_tensor_of_the_state_is_in_the_folder_once(trained, recipe, tiny_tokenizer, tmp_path):
    """With a mean of the weights, the mean is the model, and the weights are in the state."""
    folder = trained.save(tmp_path, tiny_tokenizer, step=3)
    stored = load_file(folder / STATE_NAME)
    names = trained.model.state_dict().keys()
    expected = {name for name in trained.step.state() if not name.startswith("mean.")}
    if trained.average:
        expected |= {f"weight.{name}" for name in names}
    assert stored.keys() == expected
    for name in names & {name.removeprefix("weight.") for name in stored}:
        assert torch.equal(stored[f"weight.{name}"], trained.model.state_dict()[name])
    assert all(torch.equal(stored[name], tensor) for name, tensor in trained.step.state().items() if name in stored)


def test_the_model_of_the_folder_is_the_mean_where_there_is_one(trained, recipe, tiny_tokenizer, tmp_path):
    folder = trained.save(tmp_path, tiny_tokenizer, step=3)
    kept = trained.average.means if trained.average else trained.model.state_dict()
    stored = load_file(folder / "model.safetensors")
    expected = to_hugging_face(recipe.model, kept)
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())
    if trained.average:
        weights = to_hugging_face(recipe.model, trained.model.state_dict())
        assert not torch.equal(stored["model.embed_tokens.weight"], weights["model.embed_tokens.weight"])


def test_saving_before_the_first_update_restores_moments_of_zero(recipe, tiny_tokenizer, tmp_path):
    parts, again = Parts.of(recipe, seed=0), Parts.of(recipe, seed=9)
    restore(parts.save(tmp_path, tiny_tokenizer), *again)
    assert_same(again, parts)
    moments = [tensor for name, tensor in again.step.state().items() if name.startswith(("exp_avg", "momentum"))]
    assert moments
    assert not any(tensor.any() for tensor in moments)
    for one in (parts, again):
        one.update(0)
    assert_same(again, parts)


def test_the_rates_of_the_recipe_stay(plain, tiny_tokenizer, tmp_path):
    parts = Parts.of(plain, seed=0)
    parts.update(0)
    folder = parts.save(tmp_path, tiny_tokenizer, step=1)
    other = dataclasses.replace(plain, train=dataclasses.replace(plain.train, lr=plain.train.lr / 4, weight_decay=0.0))
    again = Parts.of(other, seed=0)
    restore(folder, *again)
    before = again.tensors()["final_norm_D"]
    for one in (parts, again):
        one.update(1)
    ratio = (again.tensors()["final_norm_D"] - before) / (parts.tensors()["final_norm_D"] - before)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.25), atol=5e-3, rtol=0)


def test_a_checkpoint_is_a_model_folder(trained, config, tiny_tokenizer, tmp_path):
    folder = trained.save(tmp_path, tiny_tokenizer, step=3)
    verify_directory(folder, kind="checkpoint")
    read = read_model_folder(folder)
    assert read.config == config
    assert read.require_tokenizer().sha256 == tiny_tokenizer.sha256


def test_the_state_comes_back(save_at, tmp_path):
    save_at(7, best_step=5)
    found = load_latest(tmp_path, on_note=pytest.fail)
    assert found is not None
    folder, state = found
    assert folder == tmp_path / "checkpoints" / "step-0000007"
    assert state == dataclasses.replace(START, step=7, best_step=5, best_loss_nats=1.0)


def test_a_lower_loss_is_an_improvement():
    assert START.improved_by(9.0)
    state = dataclasses.replace(START, best_loss_nats=2.0)
    assert state.improved_by(1.9)
    assert not state.improved_by(2.0)
    assert not state.improved_by(float("nan"))


# --- which are kept ---


def test_the_best_the_latest_and_the_one_before_are_kept(save_at, tmp_path):
    history = []
    for at, best in [(3, 0), (4, 4), (6, 4), (8, 8), (9, 8), (12, 8), (15, 8), (16, 16), (18, 16)]:
        save_at(at, best)
        history.append((kept(tmp_path), named(tmp_path)))
    assert history == [
        ([3], (3, 3)),
        ([3, 4], (4, 4)),
        ([4, 6], (4, 6)),
        ([6, 8], (8, 8)),
        ([8, 9], (8, 9)),
        ([8, 9, 12], (8, 12)),
        ([8, 12, 15], (8, 15)),
        ([15, 16], (16, 16)),
        ([16, 18], (16, 18)),
    ]


def test_settling_twice_changes_nothing(save_at, tmp_path):
    for at in (3, 4, 6):
        folder = save_at(at, 3)
    before = kept(tmp_path), named(tmp_path)
    state = TrainingState(**verify_directory(folder).details)
    settle(tmp_path, state)
    assert (kept(tmp_path), named(tmp_path)) == before


def test_settling_clears_what_a_dead_process_left_and_nothing_else(save_at, tmp_path):
    folder = save_at(3)
    (tmp_path / "checkpoints" / ".step-0000002.123.partial").mkdir()
    for name in ("step-0000001-mine", "notes"):
        write_file(tmp_path / "checkpoints" / name / "precious.txt", "kept")
    settle(tmp_path, TrainingState(**verify_directory(folder).details))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["notes", "step-0000001-mine", "step-0000003"]


def test_a_best_checkpoint_that_is_gone_is_not_named(save_at, tmp_path):
    save_at(4, best_step=4)
    save_at(6, best_step=4)
    shutil.rmtree(tmp_path / "checkpoints" / "step-0000004")
    save_at(8, best_step=4)
    assert named(tmp_path) == (8, 8)
    read_model_folder(tmp_path)


# --- what is damaged ---


@pytest.mark.parametrize(
    "details",
    [
        {"step": "3"},
        {"step": -1},
        {"step": True},
        {"tokens_seen": 1.5},
        {"best_loss_nats": "low"},
        {"best_loss_nats": float("inf")},
        {"data_sha256": None},
        {"surprise": 1},
    ],
)
def test_a_manifest_that_names_no_place_to_go_on_is_passed_over(save_at, tmp_path, details):
    save_at(3)
    seal_anew(save_at(6) / MANIFEST_NAME, **details)
    notes = []
    found = load_latest(tmp_path, on_note=notes.append)
    assert found
    assert found[1].step == 3
    assert "step-0000006 does not say where the run stood" in notes[0]


def test_the_reason_why_no_checkpoint_is_whole_is_told(save_at, tmp_path):
    (save_at(3) / STATE_NAME).unlink()
    with pytest.raises(UserError, match=rf"every checkpoint in .* is damaged: .*{STATE_NAME} is missing"):
        load_latest(tmp_path, on_note=lambda note: None)


def test_no_checkpoint_yet_is_no_error(tmp_path):
    assert load_latest(tmp_path, on_note=pytest.fail) is None
    (tmp_path / "checkpoints").mkdir()
    assert load_latest(tmp_path, on_note=pytest.fail) is None


def damage_weights(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    write_file(folder / "model.safetensors", bytes(data))


def cut_state(folder: Path) -> None:
    write_file(folder / STATE_NAME, (folder / STATE_NAME).read_bytes()[:-1])


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


def empty_manifest(folder: Path) -> None:
    write_file(folder / MANIFEST_NAME, "")


def reseal(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **details) -> None:
    """Seal a checkpoint anew with another training state or other details, as a foreign program might."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST_NAME}
    if tensors is not None:
        files[STATE_NAME] = save(tensors)
    with staged_directory(folder, kind="checkpoint", replace=True) as staging:
        for name, data in files.items():
            staging.write(name, data)
        staging.details.update(details)


def change_details(folder: Path) -> None:
    reseal(folder, data_sha256="", step=8, unheard_of=1)


DAMAGES = [damage_weights, cut_state, remove_tokenizer, remove_manifest, empty_manifest, change_details]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_written_again(save_at, tmp_path, damage):
    for at in (3, 6, 8):
        folder = save_at(at)
    damage(folder)
    notes = []
    found = load_latest(tmp_path, on_note=notes.append)
    assert found is not None
    assert found[1].step == 6
    (note,) = notes
    assert note.startswith("passing over a damaged checkpoint: ")
    assert "\n" not in note
    settle(tmp_path, found[1])
    assert named(tmp_path) == (6, 6)
    save_at(8)
    assert named(tmp_path) == (8, 8)
    verify_directory(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_when_all_are_damaged_the_run_is_refused_not_begun_again(save_at, tmp_path, damage):
    for at in (3, 6):
        damage(save_at(at))
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        load_latest(tmp_path, on_note=lambda note: None)


def without(name: str):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("exp_avg.final_norm_D"), r"has no exp_avg\.final_norm_D"),
        (without("count"), "has no count"),
        (lambda tensors: {**tensors, "exp_avg.extra": torch.zeros(1)}, r"has an unexpected exp_avg\.extra"),
        (lambda tensors: {**tensors, "momentum.qkv_LED": torch.zeros(32)}, r"has an unexpected momentum\.qkv_LED"),
        (
            lambda tensors: {**tensors, "exp_avg_sq.final_norm_D": torch.zeros(33)},
            r"exp_avg_sq\.final_norm_D has the shape \(33,\), and not \(32,\)",
        ),
        (lambda tensors: {}, "has no "),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(save_at, plain, change, said):
    folder = save_at(3)
    reseal(folder, change(load_file(folder / STATE_NAME)), step=3)
    with pytest.raises(UserError, match=said) as caught:
        restore(folder, *Parts.of(plain, seed=0))
    assert STATE_NAME in caught.value.message
    assert caught.value.fix == f"remove {folder} to go on from the checkpoint before it"


def with_train(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


@pytest.mark.parametrize(("saved", "opened"), [("adamw", "muon"), ("muon", "adamw, averaged"), ("all", "muon")])
def test_the_state_of_another_optimizer_is_refused(plain, tiny_tokenizer, tmp_path, saved, opened):
    folder = Parts.of(with_train(plain, **KINDS[saved]), seed=0).save(tmp_path, tiny_tokenizer, step=3)
    with pytest.raises(UserError, match=r"training_state\.safetensors has (no|an unexpected) "):
        restore(folder, *Parts.of(with_train(plain, **KINDS[opened]), seed=0))


def test_nothing_is_changed_by_a_state_that_is_refused(save_at, plain):
    folder = save_at(3)
    reseal(folder, without("count")(load_file(folder / STATE_NAME)), step=3)
    parts = Parts.of(plain, seed=0)
    before = parts.tensors()
    with pytest.raises(UserError):
        restore(folder, *parts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in parts.tensors().items())


def test_weights_of_another_shape_are_refused(save_at, plain):
    folder = save_at(3)
    wider = dataclasses.replace(plain, model=dataclasses.replace(plain.model, hidden_size=64))
    with pytest.raises(UserError, match=r"model\.safetensors: .* has shape"):
        restore(folder, *Parts.of(wider, seed=0))


def test_a_checkpoint_without_the_training_state_is_refused(save_at, plain):
    folder = save_at(3)
    (folder / STATE_NAME).unlink()
    with pytest.raises(UserError, match=r"training_state\.safetensors cannot be read"):
        restore(folder, *Parts.of(plain, seed=0))
