"""Checkpoints: everything comes back bit for bit, the right ones are kept, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from stentor.train.optimizer import make_optimizer

from stentor.artifacts import MANIFEST_NAME, staged_directory, verify_directory, write_file
from stentor.config import TrainConfig
from stentor.errors import UserError
from stentor.model.folder import read_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import expected_shapes
from stentor.train.checkpoint import (
    OPTIMIZER_NAME,
    TrainingState,
    load_latest,
    restore,
    save_checkpoint,
    settle,
)

CONFIG = TrainConfig(lr=1e-2)
START = TrainingState(data_sha256="ab" * 32)


def step(model: Llama, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    """Make one update with random gradients."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.fixture(params=["llama", "qwen3, untied"])
def config(request, tiny_config):
    if request.param == "llama":
        return tiny_config
    return dataclasses.replace(tiny_config, carrier="qwen3", tie_word_embeddings=False, num_key_value_heads=1)


@pytest.fixture
def trained(config):
    """Return a model and its optimizer after three updates."""
    model = Llama(config)
    initialize(model, seed=1)
    optimizer = make_optimizer(model, CONFIG)
    for seed in range(3):
        step(model, optimizer, seed)
    return model, optimizer


@pytest.fixture
def save_at(tmp_path, tiny_config, tiny_tokenizer):
    """Return a function that saves a tiny model as of a step, with the best step so far."""
    model = Llama(tiny_config)
    initialize(model, seed=2)
    optimizer = make_optimizer(model, CONFIG)
    step(model, optimizer)

    def save_one(step: int, best_step: int = 0) -> Path:
        state = dataclasses.replace(START, step=step, best_step=best_step, best_loss_nats=1.0 if best_step else None)
        return save_checkpoint(tmp_path, model, optimizer, state, tiny_tokenizer)

    return save_one


def state_tensors(model: Llama, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return every tensor of the weights and of `optimizer.state_dict()`, by name."""
    tensors = dict(model.state_dict())
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in values.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def kept(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


def named(run: Path) -> tuple[int, int]:
    best, latest = (json.loads((run / name).read_text())["step"] for name in ("best.json", "latest.json"))
    return best, latest


# --- what is saved comes back ---


def test_weights_and_moments_come_back_bit_for_bit(trained, config, tiny_tokenizer, tmp_path):
    model, optimizer = trained
    folder = save_checkpoint(tmp_path, model, optimizer, dataclasses.replace(START, step=3), tiny_tokenizer)
    again = Llama(config)
    again_optimizer = make_optimizer(again, CONFIG)
    restore(folder, again, again_optimizer)
    expected, got = state_tensors(model, optimizer), state_tensors(again, again_optimizer)
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name
        assert got[name].dtype == tensor.dtype


def test_the_next_updates_are_the_same_bit_for_bit(trained, config, tiny_tokenizer, tmp_path):
    model, optimizer = trained
    folder = save_checkpoint(tmp_path, model, optimizer, dataclasses.replace(START, step=3), tiny_tokenizer)
    again = Llama(config)
    again_optimizer = make_optimizer(again, CONFIG)
    restore(folder, again, again_optimizer)
    for seed in (7, 8):
        step(model, optimizer, seed)
        step(again, again_optimizer, seed)
    expected, got = state_tensors(model, optimizer), state_tensors(again, again_optimizer)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_every_tensor_of_the_optimizer_is_in_the_file(trained, config, tiny_tokenizer, tmp_path):
    model, optimizer = trained
    folder = save_checkpoint(tmp_path, model, optimizer, dataclasses.replace(START, step=3), tiny_tokenizer)
    kinds = {name for values in optimizer.state_dict()["state"].values() for name in values}
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}, "a new kind of state must be saved too"
    stored = load_file(folder / OPTIMIZER_NAME)
    moments = ("exp_avg", "exp_avg_sq")
    assert stored.keys() == {f"{moment}.{name}" for moment in moments for name in expected_shapes(config)}
    in_memory = sum(
        values[moment].double().sum() for values in optimizer.state_dict()["state"].values() for moment in moments
    )
    assert float(sum(tensor.double().sum() for tensor in stored.values())) == pytest.approx(float(in_memory))


def test_saving_before_the_first_update_restores_moments_of_zero(tiny_config, tiny_tokenizer, tmp_path):
    model = Llama(tiny_config)
    initialize(model, seed=0)
    folder = save_checkpoint(tmp_path, model, make_optimizer(model, CONFIG), START, tiny_tokenizer)
    again = Llama(tiny_config)
    optimizer = make_optimizer(again, CONFIG)
    restore(folder, again, optimizer)
    assert all(not values["exp_avg"].any() for values in optimizer.state.values())


def test_the_learning_rate_of_the_recipe_stays(trained, config, tiny_tokenizer, tmp_path):
    model, optimizer = trained
    folder = save_checkpoint(tmp_path, model, optimizer, dataclasses.replace(START, step=3), tiny_tokenizer)
    again = Llama(config)
    optimizer = make_optimizer(again, dataclasses.replace(CONFIG, lr=0.25, weight_decay=0.5))
    restore(folder, again, optimizer)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.25, 0.5), (0.25, 0.0)]


def test_a_checkpoint_is_a_model_folder(trained, config, tiny_tokenizer, tmp_path):
    model, optimizer = trained
    folder = save_checkpoint(tmp_path, model, optimizer, dataclasses.replace(START, step=3), tiny_tokenizer)
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


def test_no_checkpoint_yet_is_no_error(tmp_path):
    assert load_latest(tmp_path, on_note=pytest.fail) is None
    (tmp_path / "checkpoints").mkdir()
    assert load_latest(tmp_path, on_note=pytest.fail) is None


def damage_weights(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    write_file(folder / "model.safetensors", bytes(data))


def cut_optimizer(folder: Path) -> None:
    write_file(folder / OPTIMIZER_NAME, (folder / OPTIMIZER_NAME).read_bytes()[:-1])


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


def empty_manifest(folder: Path) -> None:
    write_file(folder / MANIFEST_NAME, "")


def reseal(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **details) -> None:
    """Seal a checkpoint anew with another optimizer state or other details, as a foreign program might."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST_NAME}
    if tensors is not None:
        files[OPTIMIZER_NAME] = save(tensors)
    with staged_directory(folder, kind="checkpoint", replace=True) as staging:
        for name, data in files.items():
            staging.write(name, data)
        staging.details.update(details)


def change_details(folder: Path) -> None:
    reseal(folder, data_sha256="", step=8, unheard_of=1)


DAMAGES = [damage_weights, cut_optimizer, remove_tokenizer, remove_manifest, empty_manifest, change_details]


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
        (without("exp_avg.model.norm.weight"), r"missing model\.norm\.weight"),
        (lambda tensors: {**tensors, "exp_avg.extra": torch.zeros(1)}, "unexpected extra"),
        (lambda tensors: {**tensors, "momentum.model.norm.weight": torch.zeros(32)}, r"unexpected momentum"),
        (lambda tensors: {**tensors, "exp_avg_sq.model.norm.weight": torch.zeros(33)}, r"has shape \(33,\)"),
        (lambda tensors: {}, "missing"),
    ],
)
def test_moments_that_do_not_fit_are_refused_by_name(save_at, tiny_config, change, said):
    folder = save_at(3)
    reseal(folder, change(load_file(folder / OPTIMIZER_NAME)), step=3)
    model = Llama(tiny_config)
    with pytest.raises(UserError, match=said) as caught:
        restore(folder, model, make_optimizer(model, CONFIG))
    assert OPTIMIZER_NAME in str(caught.value)


def test_weights_of_another_shape_are_refused(save_at, tiny_config):
    folder = save_at(3)
    model = Llama(dataclasses.replace(tiny_config, hidden_size=64))
    with pytest.raises(UserError, match=r"model\.safetensors: .* has shape"):
        restore(folder, model, make_optimizer(model, CONFIG))


def test_a_checkpoint_without_the_optimizer_is_refused(save_at, tiny_config):
    folder = save_at(3)
    (folder / OPTIMIZER_NAME).unlink()
    model = Llama(tiny_config)
    with pytest.raises(UserError, match=r"optimizer\.safetensors cannot be read"):
        restore(folder, model, make_optimizer(model, CONFIG))
