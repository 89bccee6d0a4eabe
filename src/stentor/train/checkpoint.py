"""Checkpoints: a model folder that every command opens, with the training state beside the weights.

`latest.json` and `best.json` name steps; they are written after the checkpoint they name, and no checkpoint is
removed before a newer one stands. A damaged latest one is passed over for the one before it. A kill anywhere in
between is mended by the run that resumes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from stentor.artifacts import staged_directory, verify_directory, write_file
from stentor.errors import CorruptArtifactError, UserError
from stentor.model.folder import (
    BEST_NAME,
    CHECKPOINTS_NAME,
    WEIGHTS_NAME,
    checkpoint_name,
    write_model_folder,
)
from stentor.model.llama import Llama
from stentor.model.names import from_hugging_face, to_hugging_face
from stentor.tokenizer import Tokenizer
from stentor.train.average import WeightAverage
from stentor.train.step import Step

LATEST_NAME = "latest.json"
STATE_NAME = "training_state.safetensors"
KIND = "checkpoint"
_WEIGHT = "weight"
"""Prefix of the trained weights in the training state, where the model folder holds their mean instead."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands: everything that is not a weight or a moment is a function of the step.

    Attributes:
        data_sha256: of the training shard's token ids, which a resumed run must find again.
        teacher_sha256: of the teacher's weights, likewise; empty where there is none.
    """

    data_sha256: str
    teacher_sha256: str = ""
    step: int = 0
    tokens_seen: int = 0
    best_step: int = 0
    best_loss_nats: float | None = None

    def improved_by(self, loss_nats: float) -> bool:
        """Whether a held-out loss beats the best so far."""
        return self.best_loss_nats is None or loss_nats < self.best_loss_nats


def save_checkpoint(
    run_dir: Path, model: Llama, step: Step, average: WeightAverage | None, state: TrainingState, tokenizer: Tokenizer
) -> Path:
    """Write the checkpoint of this step, name it the latest (and the best, if it is), and drop older ones.

    Where a mean of the weights is kept, the mean is the model, and the weights are part of the training state.
    """
    folder = run_dir / CHECKPOINTS_NAME / checkpoint_name(state.step)
    weights = model.state_dict()
    tensors = step.state()
    if average:
        tensors |= {f"{_WEIGHT}.{name}": weight for name, weight in weights.items()}
        weights = average.means
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("mean.")}
    with staged_directory(folder, kind=KIND, replace=True) as staging:
        write_model_folder(staging, model.config, to_hugging_face(model.config, weights), tokenizer)
        staging.write(STATE_NAME, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
        staging.details.update(asdict(state))
    settle(run_dir, state)
    return folder


def settle(run_dir: Path, state: TrainingState) -> None:
    """Name the checkpoint of a state the latest, name the best, and drop all others but the one before.

    A resumed run does it again, for it may have been killed before or while this was done.
    """
    folder, steps = run_dir / CHECKPOINTS_NAME, _steps(run_dir)
    best_step = state.best_step if state.best_step in steps else state.step
    previous_step = max((step for step in steps if step < state.step), default=None)
    for name, step in ((LATEST_NAME, state.step), (BEST_NAME, best_step)):
        write_file(run_dir / name, json.dumps({"step": step}) + "\n")
    superseded = set(steps) - {state.step, best_step, previous_step}
    for path in (*(folder / checkpoint_name(step) for step in superseded), *folder.glob(".step-*.partial")):
        shutil.rmtree(path, ignore_errors=True)


def load_latest(run_dir: Path, *, on_note: Callable[[str], None]) -> tuple[Path, TrainingState] | None:
    """Return the newest checkpoint that is whole, with its state, or None for a run that has none yet.

    Args:
        run_dir: the run.
        on_note: told of every checkpoint that had to be passed over.

    Raises:
        UserError: there are checkpoints, and every one is damaged.
    """
    steps, first_reason = sorted(_steps(run_dir), reverse=True), ""
    for step in steps:
        folder = run_dir / CHECKPOINTS_NAME / checkpoint_name(step)
        try:
            return folder, _state_of(verify_directory(folder, kind=KIND).details, folder)
        except UserError as error:
            on_note(f"passing over a damaged checkpoint: {error.message}")
            first_reason = first_reason or error.message
    if steps:
        raise UserError(
            f"every checkpoint in {run_dir} is damaged: {first_reason}", fix="start again with another --run folder"
        )
    return None


def _state_of(details: Mapping[str, Any], folder: Path) -> TrainingState:
    """Read the state that a manifest holds; the wrong one would go on at the wrong place."""
    blank = asdict(TrainingState(data_sha256=""))
    is_whole = {"data_sha256"} <= details.keys() <= blank.keys()
    for name, value in details.items() if is_whole else ():
        if name == "best_loss_nats":
            is_whole &= value is None or (type(value) is float and math.isfinite(value))
        else:
            is_whole &= type(value) is type(blank[name]) and not (type(value) is int and value < 0)
    if not is_whole:
        raise CorruptArtifactError(f"the manifest of {folder} does not say where the run stood", fix=_go_back(folder))
    return TrainingState(**details)


def restore(folder: Path, model: Llama, step: Step, average: WeightAverage | None) -> None:
    """Put the weights and the training state of a verified checkpoint into a model and its step.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; it is named.
    """
    origin = folder / STATE_NAME
    kept = from_hugging_face(model.config, _read_tensors(folder / WEIGHTS_NAME), origin=str(folder / WEIGHTS_NAME))
    tensors = _read_tensors(origin)
    expected = step.state()
    if average:
        tensors |= {f"mean.{name}": mean for name, mean in kept.items()}
        expected |= {f"{_WEIGHT}.{name}": weight for name, weight in model.state_dict().items()}
    _require_same(expected, tensors, origin)
    weights = {name: tensors[f"{_WEIGHT}.{name}"] for name in kept} if average else kept
    model.load_state_dict(weights)
    step.load_state(tensors)


def _require_same(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    for name in expected.keys() | found.keys():
        if name not in found or name not in expected:
            what = "has no" if name in expected else "has an unexpected"
            raise UserError(f"{path} {what} {name}", fix=_go_back(path.parent))
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, and not {tuple(expected[name].shape)}"
            raise UserError(f"{path}: {name} has the shape {shapes}", fix=_go_back(path.parent))


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error})", fix=_go_back(path.parent)) from None


def _go_back(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it"


def _steps(run_dir: Path) -> list[int]:
    names = [path.name for path in (run_dir / CHECKPOINTS_NAME).glob("step-*") if path.is_dir()]
    return [int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit()]
