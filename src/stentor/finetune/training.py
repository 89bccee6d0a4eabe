"""Packed windows and a model with an adapter: the adapter is trained, everything else stays as it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stentor.config import TrainConfig
from stentor.errors import UserError
from stentor.finetune.settings import MAX_GRAD_NORM, WARMUP_SHARE, FinetuneSettings
from stentor.shards.order import SequenceOrder
from stentor.shards.pack import IGNORED_LABEL, PackedSequences
from stentor.train.schedule import learning_rate_factor


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What an update came to.

    Attributes:
        step: updates so far.
        num_steps: of the whole training.
        loss_nats: mean per token of its windows, before it.
        lr: that it was made with.
        tokens_per_second: of this update.
    """

    step: int
    num_steps: int
    loss_nats: float
    lr: float
    tokens_per_second: float


OnStep = Callable[[StepRecord], None]


def train_adapter(
    model: Any, sequences: PackedSequences, settings: FinetuneSettings, *, on_step: OnStep
) -> list[StepRecord]:
    """Train what is not frozen in a causal language model of transformers, on windows in an order of the seed.

    The loss is that of training: documents lie one after the other with EOS between them, a token may attend to all
    before it in its window, and what fills up the last window is not predicted.

    Args:
        model: with an adapter; on its device.
        sequences: the windows.
        settings: of the training.
        on_step: called after each update.

    Raises:
        UserError: the loss is no number any more.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
    num_steps, order = settings.num_steps(len(sequences)), SequenceOrder(len(sequences), settings.seed)
    schedule = TrainConfig(schedule="cosine", warmup_steps=math.ceil(WARMUP_SHARE * num_steps))
    records: list[StepRecord] = []
    model.train()
    for step in range(num_steps):
        began, lr = time.perf_counter(), settings.lr * learning_rate_factor(step, num_steps, schedule)
        for group in optimizer.param_groups:
            group["lr"] = lr
        inputs_BT, labels_BT = map(
            torch.from_numpy, sequences.batch(order.indices(step * settings.batch, settings.batch))
        )
        loss_nats = _update(model, optimizer, parameters, inputs_BT, labels_BT)
        if not math.isfinite(loss_nats):
            raise UserError(
                f"the loss of step {step + 1} of {num_steps} is {loss_nats}: the adapter has left the range of numbers",
                fix=f"use a lower --lr than {settings.lr:g}; nothing was kept",
            )
        rate = inputs_BT.numel() / (time.perf_counter() - began)
        records.append(StepRecord(step + 1, num_steps, loss_nats, lr, rate))
        on_step(records[-1])
    return records


def _update(
    model: Any,
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.Tensor],
    inputs_BT: torch.Tensor,
    labels_BT: torch.Tensor,
) -> float:
    """Make an update, one window after the other; returns the mean loss per token in nats."""
    device = parameters[0].device
    num_predicted = int((labels_BT[:, 1:] != IGNORED_LABEL).sum())
    halves = device.type == "cuda" and torch.cuda.is_bf16_supported()
    total_nats, at_once = 0.0, _windows_at_once(device)
    for inputs_MT, labels_MT in zip(inputs_BT.split(at_once), labels_BT.split(at_once), strict=True):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=halves):
            logits_MTV = model(input_ids=inputs_MT.to(device)).logits
        loss = torch.nn.functional.cross_entropy(
            logits_MTV[:, :-1].flatten(0, 1).float(),
            labels_MT[:, 1:].flatten().to(device),
            ignore_index=IGNORED_LABEL,
            reduction="sum",
        )
        (loss / max(1, num_predicted)).backward()
        total_nats += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total_nats / max(1, num_predicted)


def _windows_at_once(device: torch.device) -> int:
    """Return how many windows pass together: a CPU's caches hold hardly one, a GPU is fast only with many."""
    return 2 if device.type == "cpu" else 64
