"""What a run would cost, before it is started."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
from stentor.train.distributed import ALONE, World

_CHECKPOINTS_KEPT = 4
"""The latest, the one before it, the best, and one being written."""
_TIMED_STEPS = 2
_CPU_REFUSAL = "DefaultCPUAllocator: can't allocate memory"
"""What torch says on a CPU, in an error of no class of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The estimated cost of a run.

    Attributes:
        num_processes: that train together.
        memory_bytes: of one process.
        tokens_per_second: of all together, measured on a few micro-batches of random tokens in each at once.
    """

    num_parameters: int
    num_tokens: int
    num_steps: int
    last_step_tokens: int
    device: str
    num_processes: int
    precision: str
    memory_bytes: int
    disk_bytes: int
    tokens_per_second: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def plan(recipe: Recipe, world: World = ALONE) -> Plan:
    """Estimate what training a recipe takes on this machine; writes nothing.

    Args:
        recipe: what is to be trained.
        world: the processes that would train it together, which all ask at once.

    Raises:
        UserError: the machine's memory cannot hold it.
    """
    device = pick_device()
    dtype = compute_dtype(recipe.train.precision, device)
    require_memory(recipe, device, world)
    budget, num_parameters = Budget.of(recipe), recipe.model.num_parameters
    last_step = budget.num_sequences - budget.sequences_before(budget.num_steps - 1)
    with explained_memory(recipe):
        tokens_per_second = world.total(_measured_rate(_of_each(recipe, world), device))
    return Plan(
        num_parameters=num_parameters,
        num_tokens=recipe.train.tokens,
        num_steps=budget.num_steps,
        last_step_tokens=last_step * recipe.model.max_position_embeddings,
        device=str(device),
        num_processes=world.size,
        precision=str(dtype).removeprefix("torch."),
        memory_bytes=memory_bytes(_of_each(recipe, world), dtype),
        disk_bytes=disk_bytes(recipe),
        tokens_per_second=tokens_per_second,
        seconds=recipe.train.tokens / tokens_per_second,
    )


def require_memory(recipe: Recipe, device: torch.device, world: World = ALONE) -> None:
    """Refuse a run that this machine has not the memory for, before anything is built.

    Raises:
        UserError: what it would take, and what there is.
    """
    recipe = _of_each(recipe, world)
    needed, there = memory_bytes(recipe, compute_dtype(recipe.train.precision, device)), _machine_bytes(device)
    processes = ""
    if device.type == "cpu" and world.local_size > 1:
        processes, needed = f" in {world.local_size} processes", needed * world.local_size
    if there is not None and needed > there:
        raise UserError(
            f"training {recipe.model.num_parameters:,} parameters on micro-batches of {_micro_batch(recipe)} x "
            f"{recipe.model.max_position_embeddings} tokens{processes} takes about {needed / 1e9:,.1f} GB of memory, "
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
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _CPU_REFUSAL not in str(error):
            raise
        size = _micro_batch(recipe)
        smaller = (
            f"set train.micro_batch_size={size // 2}: steps keep their {recipe.train.global_batch_tokens:,} tokens"
        )
        raise UserError(
            f"micro-batches of {size} sequences do not fit the device's memory ({str(error).splitlines()[0]})",
            fix=smaller if size > 1 else "choose a smaller model or a shorter context",
        ) from None


def _of_each(recipe: Recipe, world: World) -> Recipe:
    """Return a recipe whose micro-batches are no larger than a process's share of a step."""
    budget = Budget.of(recipe)
    share = -(-min(budget.sequences_per_step, budget.num_sequences) // world.size)
    train = replace(recipe.train, micro_batch_size=min(recipe.train.micro_batch_size, share))
    return replace(recipe, train=train)


def memory_bytes(recipe: Recipe, dtype: torch.dtype) -> int:
    """Estimate the memory of a run: what a checkpoint holds, gradients, and one micro-batch's activations."""
    return _checkpoint_bytes(recipe) + 4 * recipe.model.num_parameters + activation_bytes(recipe, dtype.itemsize)


def disk_bytes(recipe: Recipe, num_train_tokens: int = 0) -> int:
    """Estimate the disk space of a run: its checkpoints, and what its teachers expect of so many tokens of text."""
    kept = recipe.train.expectations_kept if recipe.train.teachers else 0
    return _CHECKPOINTS_KEPT * _checkpoint_bytes(recipe) + 4 * kept * num_train_tokens


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

    Per token and layer, in the type of products: two normalised inputs, queries and keys before and after they are
    turned, values, the attention's output, gate, up, their product and its activation; in the type of what flows
    between layers: two sums, and their norms before they are converted. The logits are kept in float32, with two
    gradients as the backward pass begins. Fused kernels keep less.
    """
    model = recipe.model
    tokens = _micro_batch(recipe) * model.max_position_embeddings
    widths = (model.num_attention_heads * 3 + model.num_key_value_heads * 3) * model.head_dim
    stream_bytes = bytes_per_value if recipe.train.float32_parts == "none" else 4
    per_layer = (2 * model.hidden_size + widths + 4 * model.intermediate_size) * bytes_per_value
    per_layer += 4 * model.hidden_size * stream_bytes
    return tokens * (model.num_hidden_layers * per_layer + 3 * 4 * model.vocab_size)


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
