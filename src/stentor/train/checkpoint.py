"""Checkpoints: a model folder that every command opens, with the optimizer's state beside the weights.

`latest.json` and `best.json` name steps; they are written after the checkpoint they name, and no checkpoint is
removed before a newer one stands. A damaged latest one is passed over for the one before it. A kill anywhere in
between is mended by the run that resumes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from stentor.artifacts import read_manifest, staged_directory, verify_directory, write_file
from stentor.errors import UserError
from stentor.model.config import ModelConfig
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

LATEST_NAME = "latest.json"
OPTIMIZER_NAME = "optimizer.safetensors"
KIND = "checkpoint"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands: everything that is not a weight or a moment is a function of the step.

    Attributes:
        data_sha256: of the training shard's token ids, which a resumed run must find again.
    """

    data_sha256: str
    step: int = 0
    tokens_seen: int = 0
    best_step: int = 0
    best_loss_nats: float | None = None

    def improved_by(self, loss_nats: float) -> bool:
        """Whether a held-out loss beats the best so far."""
        return self.best_loss_nats is None or loss_nats < self.best_loss_nats


def save_checkpoint(
    run_dir: Path, model: Llama, optimizer: torch.optim.Optimizer, state: TrainingState, tokenizer: Tokenizer
) -> Path:
    """Write the checkpoint of this step, name it the latest (and the best, if it is), and drop older ones."""
    folder = run_dir / CHECKPOINTS_NAME / checkpoint_name(state.step)
    with staged_directory(folder, kind=KIND, replace=True) as staging:
        write_model_folder(staging, model.config, to_hugging_face(model.config, model.state_dict()), tokenizer)
        staging.write(OPTIMIZER_NAME, save(_moments(model, optimizer)))
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
    steps = sorted(_steps(run_dir), reverse=True)
    for step in steps:
        folder = run_dir / CHECKPOINTS_NAME / checkpoint_name(step)
        try:
            details: dict[str, Any] = verify_directory(folder, kind=KIND).details
            return folder, TrainingState(**details)
        except (UserError, TypeError) as error:
            on_note(f"passing over a damaged checkpoint: {str(error).splitlines()[0]}")
    if steps:
        raise UserError(f"every checkpoint in {run_dir} is damaged", fix="start again with another --run folder")
    return None


def restore(folder: Path, model: Llama, optimizer: torch.optim.Optimizer) -> None:
    """Put the weights and moments of a verified checkpoint into a model and its optimizer.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; it is named.
    """
    device = model.embedding_VD.device
    weights = _read_tensors(folder / WEIGHTS_NAME)
    model.load_state_dict(from_hugging_face(model.config, weights, origin=str(folder / WEIGHTS_NAME)))
    moments = _read_moments(folder / OPTIMIZER_NAME, model.config)
    step = torch.tensor(float(read_manifest(folder).details["step"]), device=device)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.load_state_dict(
        {
            "state": {
                index: {"step": step.clone(), **{moment: moments[moment][names[id(p)]] for moment in _MOMENTS}}
                for index, p in enumerate(parameters)
            },
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _moments(model: Llama, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return AdamW's two moments under Hugging Face's names, like the weights they belong to."""
    tensors = {}
    for moment in _MOMENTS:
        ours = {
            name: optimizer.state[parameter].get(moment, torch.zeros_like(parameter))
            for name, parameter in model.named_parameters()
        }
        for name, tensor in to_hugging_face(model.config, ours).items():
            tensors[f"{moment}.{name}"] = tensor.cpu()
    return tensors


def _read_moments(path: Path, config: ModelConfig) -> dict[str, dict[str, torch.Tensor]]:
    """Return each moment's tensors under the names of our parameters; the inverse of `_moments`."""
    stored: dict[str, dict[str, torch.Tensor]] = {moment: {} for moment in _MOMENTS}
    for name, tensor in _read_tensors(path).items():
        moment, _, parameter = name.partition(".")
        if moment not in stored:
            raise UserError(f"{path} has an unexpected {name}", fix=_go_back(path))
        stored[moment][parameter] = tensor
    return {moment: from_hugging_face(config, tensors, origin=str(path)) for moment, tensors in stored.items()}


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error})", fix=_go_back(path)) from None


def _go_back(path: Path) -> str:
    return f"remove {path.parent} to go on from the checkpoint before it"


def _steps(run_dir: Path) -> list[int]:
    names = [path.name for path in (run_dir / CHECKPOINTS_NAME).glob("step-*") if path.is_dir()]
    return [int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit()]
