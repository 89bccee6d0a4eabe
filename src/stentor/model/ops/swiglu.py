"""SwiGLU, between the two products of the feed-forward network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way


def swiglu(gate_up_BTF: Tensor, *, way: Way) -> Tensor:
    """Return silu(gate) * up [B, T, F / 2] of gate and up beside each other.

    Reference: Shazeer 2020, "GLU Variants Improve Transformer", arXiv 2002.05202, eq. 5.
    """
    if way is not Way.PLAIN:
        return _Swiglu.apply(gate_up_BTF, way)
    gate_BTF, up_BTF = gate_up_BTF.chunk(2, dim=-1)
    return F.silu(gate_BTF) * up_BTF


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, way: Way) -> Tensor:
        ctx.kernels = way.kernels("swiglu")
        ctx.save_for_backward(gate_up)
        return ctx.kernels.swiglu_forward(gate_up.flatten(0, -2)).unflatten(0, gate_up.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gate_up,) = ctx.saved_tensors
        grad = ctx.kernels.swiglu_backward(gate_up.flatten(0, -2), grads[0].flatten(0, -2).contiguous())
        return grad.view(gate_up.shape), None
