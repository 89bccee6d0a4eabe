"""A trained network whose expectations another one learns from.

The teacher reads every batch beside the student, so nothing is stored between them and no part of its distribution is
cut off. It costs the student's run one forward pass of the teacher per token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from stentor.config import Recipe
from stentor.errors import UserError
from stentor.model.device import compute_dtype
from stentor.model.folder import ModelFolder, read_model_folder, resolve_model
from stentor.model.llama import Llama
from stentor.model.locate import weights_file
from stentor.model.loss import distilled_loss
from stentor.model.numerics import Numerics
from stentor.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whom to learn from.

    Attributes:
        model: the network, on the student's device; never trained.
        share: of the loss that is taken against it, 0 to 1.
        sha256: of its weights, which a resumed run must find again.
    """

    model: Llama
    share: float
    sha256: str

    def loss(
        self, student: Llama, inputs_BT: Tensor, labels_BT: Tensor, *, document_ids_BT: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss to learn from, and the summed nats of the labels alone; see `distilled_loss`."""
        return distilled_loss(
            student, self.model, inputs_BT, labels_BT, share=self.share, document_ids_BT=document_ids_BT
        )


def load_teacher(recipe: Recipe, tokenizer: Tokenizer, device: torch.device) -> Teacher | None:
    """Return the teacher that a recipe names, or None where it names none.

    Raises:
        UserError: there is no such model, or it cannot read the student's tokens or sequences.
    """
    if not recipe.train.teacher:
        return None
    folder = _read(recipe)
    _require_fit(folder, recipe, tokenizer)
    model = folder.build(device).requires_grad_(requires_grad=False)
    model.numerics = Numerics(compute_dtype=compute_dtype(recipe.train.precision, device))
    sha256 = hashlib.sha256(weights_file(folder.path).read_bytes()).hexdigest()
    return Teacher(model, recipe.train.teacher_share, sha256)


def _read(recipe: Recipe) -> ModelFolder:
    name = recipe.train.teacher
    try:
        resolve_model(name)
    except UserError as error:
        raise UserError(
            f"the teacher {name} cannot be read: {str(error).splitlines()[0]}",
            fix=f"train it first (stentor train {name.rsplit('/', 1)[-1]}), or learn without it: "
            f"--set train.teacher=''",
        ) from None
    return read_model_folder(name)


def _require_fit(folder: ModelFolder, recipe: Recipe, tokenizer: Tokenizer) -> None:
    if folder.require_tokenizer().sha256 != tokenizer.sha256:
        raise UserError(
            f"the teacher {folder.path} reads other tokens than the student",
            fix="train it on the same prepared data: its expectations are of its own tokens",
        )
    theirs, ours = folder.config, recipe.model
    for key in ("vocab_size", "max_position_embeddings"):
        has, needs = getattr(theirs, key), getattr(ours, key)
        if has < needs or (key == "vocab_size" and has != needs):
            raise UserError(
                f"the teacher {folder.path} has a {key} of {has}, the student one of {needs}",
                fix=f"train a teacher with model.{key}={needs}",
            )
