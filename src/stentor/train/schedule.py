"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from stentor.config import TrainConfig


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Return the rate of update number `step` (from 0): a linear warmup, then a cosine down to its floor.

    Args:
        step: updates already made.
        num_steps: updates of the whole run.
        config: peak, warmup and floor.

    Reference: Loshchilov and Hutter 2017, "SGDR", arXiv 1608.03983, eq. 5.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    decaying = max(1, num_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / decaying)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)
