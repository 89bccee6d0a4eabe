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
_SMALLEST_SCALE = 1e-12
"""Stands for the scale of a channel whose weights are all zero."""


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each output channel to INT8.

    Args:
        weight: matrices [..., out, in], float32.

    Returns:
        The integers, -127 .. 127, int8 [..., out, in], and the scale of each channel, float32 [..., out, 1]; their
        product is the rounded weight.
    """
    scale = weight.detach().abs().amax(dim=-1, keepdim=True).clamp(min=_SMALLEST_SCALE) / INT8_MAX
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
