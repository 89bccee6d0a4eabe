"""INT8 as a network will meet it later, felt already while it is trained.

The reference's `Int8LinearT4` keeps a float32 `weight_master` and multiplies by that weight rounded to 255 levels,
one scale for each output channel, symmetric around zero. Rounding has no gradient; the master receives the gradient
of the rounded weight as if nothing had happened (a straight-through estimator).

References: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv 1712.05877, section 3; Bengio et al. 2013, arXiv 1308.3432 (straight-through).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

INT8_MAX = 127
_HALF = torch.finfo(torch.float16)
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-24, _HALF.max
"""The range of float16; the smallest also stands for the scale of a channel whose weights are all zero."""


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each output channel to INT8.

    Scales are rounded to float16, the type of those in a file: what is trained with is what is shipped, to the bit.

    Args:
        weight: matrices [..., out, in], float32.

    Returns:
        The integers, -127 .. 127, int8 [..., out, in], and the scale of each channel, float32 [..., out, 1], a number
        that float16 has; their product is the rounded weight.
    """
    exact = weight.detach().abs().amax(dim=-1, keepdim=True) / INT8_MAX
    scale = exact.clamp(_SMALLEST_SCALE, _LARGEST_SCALE).half().float()
    return (weight.detach() / scale).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8), scale


def dequantize_int8(integers: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 weights that integers and scales stand for."""
    return integers.float() * scale


def fake_quantize(weight: Tensor) -> Tensor:
    """Return the weight as INT8 holds it, in float32, to the bit; the gradient passes to the weight unchanged.

    Args:
        weight: matrices [..., out, in].
    """
    return _StraightThrough.apply(weight)


class _StraightThrough(torch.autograd.Function):
    """Rounding in the forward pass, nothing in the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return dequantize_int8(*quantize_int8(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]
