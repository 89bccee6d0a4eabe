"""Initial weights, as the reference's: every matrix normal(0, 0.02), norms 1; these models have no biases.

The reference's text says "truncated normal", its code draws from a plain one. The plain one is the default here;
`truncated_normal` cuts at two standard deviations.

`scaled` is for Muon: what layers add to the stream (attention's output, the MLP's) begins at zero, so that the network
begins as its embedding; other matrices are uniform with a deviation of 0.68 / sqrt(inputs), and queries that are
normalised begin with a gain of 1.5. These values are starting points; what each is worth was not measured yet.
"""

from __future__ import annotations

import torch

from stentor.model.llama import Llama

INITIAL_STD = 0.02
SCALED_STD, QUERY_GAIN = 0.68, 1.5
_BEGIN_AT_ZERO = ("attention_out_LDE", "down_LDF")


def initialize(model: Llama, *, seed: int, initializer: str = "normal") -> None:
    """Fill all weights of a model in place; the same seed gives the same weights on every device.

    Args:
        model: the network.
        seed: of the draw.
        initializer: `normal`, `truncated_normal` or `scaled`.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if is_norm(name):
            is_gain = initializer == "scaled" and name == "q_norm_LH"
            torch.nn.init.constant_(parameter, QUERY_GAIN if is_gain else 1.0)
            continue
        drawn = _drawn(name, parameter.shape, initializer, generator)
        with torch.no_grad():
            parameter.copy_(drawn)


def _drawn(name: str, shape: torch.Size, initializer: str, generator: torch.Generator) -> torch.Tensor:
    values, std = torch.empty(shape), INITIAL_STD
    if initializer == "truncated_normal":
        return torch.nn.init.trunc_normal_(values, std=std, a=-2 * std, b=2 * std, generator=generator)
    if initializer == "scaled" and len(shape) == 3:
        bound = 0.0 if name in _BEGIN_AT_ZERO else SCALED_STD * (3 / shape[-1]) ** 0.5
        return torch.nn.init.uniform_(values, -bound, bound, generator=generator)
    return torch.nn.init.normal_(values, std=std, generator=generator)


def is_norm(parameter_name: str) -> bool:
    """Whether a parameter of ours scales an RMSNorm (stacked norms are matrices, so their rank does not tell)."""
    return "norm" in parameter_name
