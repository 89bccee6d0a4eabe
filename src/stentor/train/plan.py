"""What a run would cost, before it is started."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from stentor.config import Recipe
from stentor.errors import UserError
from stentor.model.device import compute_dtype, pick_device
from stentor.model.init import initialize
from stentor.model.loss import shifted_loss
from stentor.model.names import expected_shapes
from stentor.train.batches import Budget
from stentor.train.build import make_model

_CHECKPOINTS_KEPT = 4
"""The latest, the one before it, the best, and one being written."""
_TIMED_STEPS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """The estimated cost of a run; `tokens_per_second` is measured on a few micro-batches of random tokens."""

    num_parameters: int
    num_tokens: int
    num_steps: int
    last_step_tokens: int
    device: str
    precision: str
    memory_bytes: int
    disk_bytes: int
    tokens_per_second: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def plan(recipe: Recipe) -> Plan:
    """Estimate what training a recipe takes on this machine; writes nothing.

    Raises:
        UserError: the machine's memory cannot hold it.
    """
    device = pick_device()
    dtype = compute_dtype(recipe.train.precision, device)
    require_memory(recipe, device)
    budget, num_parameters = Budget.of(recipe), recipe.model.num_parameters
    last_step = budget.num_sequences - budget.sequences_before(budget.num_steps - 1)
    tokens_per_second = _measured_rate(recipe, device)
    return Plan(
        num_parameters=num_parameters,
        num_tokens=recipe.train.tokens,
        num_steps=budget.num_steps,
        last_step_tokens=last_step * recipe.model.max_position_embeddings,
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
        memory_bytes=memory_bytes(recipe, dtype),
        disk_bytes=disk_bytes(recipe),
        tokens_per_second=tokens_per_second,
        seconds=recipe.train.tokens / tokens_per_second,
    )


def require_memory(recipe: Recipe, device: torch.device) -> None:
    """Refuse a run that this machine has not the memory for, before anything is built.

    Raises:
        UserError: what it would take, and what there is.
    """
    needed, there = memory_bytes(recipe, compute_dtype(recipe.train.precision, device)), _machine_bytes(device)
    if there is not None and needed > there:
        raise UserError(
            f"training {recipe.model.num_parameters:,} parameters on micro-batches of {_micro_batch(recipe)} x "
            f"{recipe.model.max_position_embeddings} tokens takes about {needed / 1e9:,.1f} GB of memory, "
            f"{device.type} has {there / 1e9:,.1f}",
            fix="lower train.micro_batch_size, or choose a smaller model",
        )


@contextlib.contextmanager
def explained_memory(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into a sentence that keeps the tokens of a step.

    Raises:
        UserError: a smaller micro-batch is proposed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = _micro_batch(recipe)
        smaller = (
            f"set train.micro_batch_size={size // 2}: steps keep their {recipe.train.global_batch_tokens:,} tokens"
        )
        raise UserError(
            f"micro-batches of {size} sequences do not fit the device's memory ({str(error).splitlines()[0]})",
            fix=smaller if size > 1 else "choose a smaller model or a shorter context",
        ) from None


def memory_bytes(recipe: Recipe, dtype: torch.dtype) -> int:
    """Estimate the memory of a run: what a checkpoint holds, gradients, and one micro-batch's activations."""
    return _checkpoint_bytes(recipe) + 4 * recipe.model.num_parameters + activation_bytes(recipe, dtype.itemsize)


def disk_bytes(recipe: Recipe) -> int:
    """Estimate the disk space of a run: its checkpoints."""
    return _CHECKPOINTS_KEPT * _checkpoint_bytes(recipe)


def _checkpoint_bytes(recipe: Recipe) -> int:
    """Estimate weights, their mean, and moments in float32: AdamW keeps two, Muon one (and one more per row)."""
    shapes, num_parameters = expected_shapes(recipe.model), recipe.model.num_parameters
    matrices = sum(math.prod(shape) for name, shape in shapes.items() if ".layers." in name and len(shape) == 2)
    values = 3 * num_parameters - (matrices if recipe.train.optimizer == "muon" else 0)
    return 4 * (values + (num_parameters if recipe.train.average_decay else 0))


def _machine_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows does not say
        return None


def _micro_batch(recipe: Recipe) -> int:
    """Return the sequences of the largest forward pass."""
    budget = Budget.of(recipe)
    return min(recipe.train.micro_batch_size, budget.sequences_per_step, budget.num_sequences)


def activation_bytes(recipe: Recipe, bytes_per_value: int) -> int:
    """Estimate what one micro-batch keeps for its backward pass.

    Per token and layer: two normalised inputs, queries, keys, values, the attention's output and its projection, two
    residual sums, gate, up, their product and its activation. The logits are kept in float32, with their gradient.
    This is what plain operations keep; fused ones keep less.
    """
    model = recipe.model
    tokens = _micro_batch(recipe) * model.max_position_embeddings
    widths = (model.num_attention_heads * 3 + model.num_key_value_heads * 3) * model.head_dim
    per_layer = 6 * model.hidden_size + widths + 4 * model.intermediate_size
    return tokens * (model.num_hidden_layers * per_layer * bytes_per_value + 3 * 4 * model.vocab_size)


def _measured_rate(recipe: Recipe, device: torch.device) -> float:
    """Return tokens per second of forward and backward passes of one micro-batch."""
    model = make_model(recipe, device)
    initialize(model, seed=0)
    shape = (_micro_batch(recipe), recipe.model.max_position_embeddings)
    ids_BT = torch.randint(recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(device)
    seconds = []
    for _ in range(_TIMED_STEPS):
        started = time.perf_counter()
        total_nats, _ = shifted_loss(model, ids_BT, ids_BT)
        total_nats.backward()
        float(total_nats.detach())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return ids_BT.numel() / min(seconds)
