"""Trained networks whose expectations another one learns from.

Teachers read every batch beside the student, so nothing is stored between them and no part of their distribution is
cut off; each costs the student's run one forward pass per token. Or they are asked once (`expectations.py`), and what
stands for their distribution is read in every epoch.
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
from stentor.model.inherit import require_ancestor
from stentor.model.llama import Llama
from stentor.model.locate import weights_file
from stentor.model.loss import distilled_loss, loss_of_expected
from stentor.model.numerics import Numerics
from stentor.model.weight_index import files_of
from stentor.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whom to learn from.

    Attributes:
        models: networks on the student's device, never trained; several are heard as one, by the mean of their logits.
        share: of the loss that is taken against it, 0 to 1.
        sha256: of their weights, which a resumed run must find again.
    """

    models: tuple[Llama, ...]
    share: float
    sha256: str

    @property
    def num_parameters(self) -> int:
        """Of all models together."""
        return sum(model.config.num_parameters for model in self.models)

    def loss(
        self,
        student: Llama,
        inputs_BT: Tensor,
        labels_BT: Tensor,
        expected_BTE: Tensor | None = None,
        *,
        document_ids_BT: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss to learn from, and the summed nats of the labels alone; see `distilled_loss`.

        Args:
            student: who learns.
            inputs_BT: token ids.
            labels_BT: the same ids, -100 where nothing is to be predicted.
            expected_BTE: what the models said of these sequences when they were asked; otherwise they are asked now.
            document_ids_BT: keeps attention within documents.
        """
        if expected_BTE is not None:
            return loss_of_expected(
                student, expected_BTE, inputs_BT, labels_BT, share=self.share, document_ids_BT=document_ids_BT
            )
        return distilled_loss(
            student, self.models, inputs_BT, labels_BT, share=self.share, document_ids_BT=document_ids_BT
        )


def load_teacher(recipe: Recipe, tokenizer: Tokenizer, device: torch.device) -> Teacher | None:
    """Return the teachers that a recipe names, as one, or None where it names none.

    Raises:
        UserError: there is no such model, it cannot read the student's tokens or sequences, or the student cannot begin
            as a part of it where it is to.
    """
    if not recipe.train.teachers:
        return None
    models, digest = [], hashlib.sha256()
    for name in recipe.train.teachers:
        folder = _read(name)
        _require_fit(folder, recipe, tokenizer)
        model = folder.build(device).requires_grad_(requires_grad=False)
        model.numerics = Numerics(compute_dtype=compute_dtype(recipe.train.precision, device))
        models.append(model)
        for file in files_of(weights_file(folder.path)):
            digest.update(file.read_bytes())
    if recipe.train.initializer == "teacher":
        require_ancestor(recipe.model, models[0].config)
    return Teacher(tuple(models), recipe.train.teacher_share, digest.hexdigest())


def _read(name: str) -> ModelFolder:
    try:
        resolve_model(name)
    except UserError as error:
        raise UserError(
            f"the teacher {name} cannot be read: {str(error).splitlines()[0]}",
            fix=f"train it first (stentor train {name.rsplit('/', 1)[-1]}), or learn without it: "
            f"--set 'train.teachers=[]' --set train.initializer=scaled",
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
