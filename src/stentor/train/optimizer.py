"""The optimizer: AdamW, with weight decay on matrices and none on norms."""

from __future__ import annotations

import torch

from stentor.config import TrainConfig
from stentor.model.init import is_norm
from stentor.model.llama import Llama


def make_optimizer(model: Llama, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over all parameters of a model.

    Reference: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    matrices = [parameter for name, parameter in model.named_parameters() if not is_norm(name)]
    norms = [parameter for name, parameter in model.named_parameters() if is_norm(name)]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": norms, "weight_decay": 0.0}],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` for the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr
