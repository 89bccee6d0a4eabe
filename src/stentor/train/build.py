"""A recipe becomes the parts of a run: the network with its numerics, its optimizers, and the step that uses them."""

from __future__ import annotations

import torch

from stentor.config import Recipe, TrainConfig
from stentor.model.device import compute_dtype
from stentor.model.inherit import inherit
from stentor.model.init import initialize, is_norm
from stentor.model.llama import Llama
from stentor.model.numerics import Numerics
from stentor.train.average import WeightAverage
from stentor.train.batches import Budget
from stentor.train.distributed import ALONE, World
from stentor.train.optimizers import Optimizers
from stentor.train.step import Step
from stentor.train.teacher import Teacher


def make_model(recipe: Recipe, device: torch.device) -> Llama:
    """Return the network of a recipe, its weights unset, computing as the recipe wants on this device."""
    model = Llama(recipe.model).to(device)
    model.numerics = Numerics(
        compute_dtype=compute_dtype(recipe.train.precision, device),
        float32_parts=recipe.train.float32_parts,
        fake_quantizes=recipe.train.fake_quantize == "int8",
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(recipe.train.learns_norms or not is_norm(name))
    return model


def set_initial_weights(model: Llama, train: TrainConfig, teacher: Teacher | None) -> None:
    """Fill a network's weights as the recipe wants: at random, or with a part of its first teacher's."""
    if train.initializer == "teacher":
        assert teacher, "a recipe that names no teacher cannot ask for its weights"
        inherit(model, teacher.models[0])
    else:
        initialize(model, seed=train.seed, initializer=train.initializer)


def make_step(
    model: Llama,
    average: WeightAverage | None,
    recipe: Recipe,
    *,
    eos_token_id: int,
    teacher: Teacher | None = None,
    world: World = ALONE,
) -> Step:
    """Return what updates a network as the recipe wants."""
    budget, train = Budget.of(recipe), recipe.train
    return Step(
        model,
        Optimizers(model, train),
        average,
        teacher,
        sequences_per_step=min(budget.sequences_per_step, budget.num_sequences),
        micro_batch_size=train.micro_batch_size,
        max_grad_norm=train.max_grad_norm,
        document_separator=eos_token_id if train.mask_across_documents else None,
        expectations_kept=train.expectations_kept if teacher else 0,
        world=world,
    )
