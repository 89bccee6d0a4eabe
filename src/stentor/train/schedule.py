"""Learning rate and momentum as pure functions of the step."""

from __future__ import annotations

import math
from typing import NamedTuple

from stentor.config import TrainConfig

MOMENTUM_WARMUP_STEPS, FIRST_MOMENTUM = 300, 0.85
"""Muon's momentum begins low, while gradients still turn quickly."""


class Rates(NamedTuple):
    """What the optimizers are told for one update.

    Attributes:
        factor: share of every peak learning rate, 0 to 1.
        momentum: Muon's.
    """

    factor: float
    momentum: float


def rates(step: int, num_steps: int, config: TrainConfig) -> Rates:
    """Return the rates of update number `step` (from 0).

    Args:
        step: updates already made.
        num_steps: updates of the whole run.
        config: warmup, shape of the decay, floor.
    """
    warm = min(1.0, step / MOMENTUM_WARMUP_STEPS)
    return Rates(
        learning_rate_factor(step, num_steps, config), FIRST_MOMENTUM + (config.momentum - FIRST_MOMENTUM) * warm
    )


def learning_rate_factor(step: int, num_steps: int, config: TrainConfig) -> float:
    """Return the share of the peak rate: a linear warmup, then down to the floor.

    `cosine` decays from the end of the warmup on; `linear` stays at the peak and decays over the last `decay_ratio` of
    the steps.

    References: Loshchilov and Hutter 2017, "SGDR", arXiv 1608.03983, eq. 5; Hu et al. 2024, "MiniCPM", arXiv 2404.06395
    (a constant rate, then a decay).
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        start = config.warmup_steps
    else:
        start = max(config.warmup_steps, round(num_steps * (1 - config.decay_ratio)))
    progress = min(1.0, max(0, step - start) / max(1, num_steps - start))
    remaining = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * remaining
