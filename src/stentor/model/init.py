"""Initial weights, as the reference's: every matrix normal(0, 0.02), norms 1; these models have no biases.

The reference's text says "truncated normal", its code draws from a plain one. The plain one is the default here;
`truncated_normal` cuts at two standard deviations.
"""

from __future__ import annotations

import torch

from stentor.model.llama import Llama

INITIAL_STD = 0.02


def initialize(model: Llama, *, seed: int, initializer: str = "normal") -> None:
    """Fill all weights of a model in place; the same seed gives the same weights on every device.

    Args:
        model: the network.
        seed: of the draw.
        initializer: `normal` or `truncated_normal`.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if is_norm(name):
            torch.nn.init.ones_(parameter)
            continue
        drawn = torch.empty(parameter.shape)
        if initializer == "truncated_normal":
            torch.nn.init.trunc_normal_(
                drawn, std=INITIAL_STD, a=-2 * INITIAL_STD, b=2 * INITIAL_STD, generator=generator
            )
        else:
            torch.nn.init.normal_(drawn, std=INITIAL_STD, generator=generator)
        with torch.no_grad():
            parameter.copy_(drawn)


def is_norm(parameter_name: str) -> bool:
    """Whether a parameter of ours scales an RMSNorm (stacked norms are matrices, so their rank does not tell)."""
    return "norm" in parameter_name
