"""The sum that layers add to, and its RMSNorm."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way

MAX_GPU_HIDDEN_SIZE = 4096
"""Longer rows do not fit the registers of one block of threads."""


def add_rms_norm(
    x_BTD: Tensor, delta_BTD: Tensor | None, gain: Tensor, *, eps: float, dtype: torch.dtype, way: Way
) -> tuple[Tensor, Tensor]:
    """Return x + delta, and its RMSNorm in `dtype`.

    Args:
        x_BTD: what flows between layers.
        delta_BTD: what a layer adds to it; None adds nothing.
        gain: of the norm, from `norm_gains`.
        eps: of the norm.
        dtype: of the product that the norm feeds.
        way: of computing it.

    Reference: Zhang and Sennrich 2019, "RMSNorm", arXiv 1910.07467, eq. 4.
    """
    if way is Way.CPU or _is_on_gpu(x_BTD, way):
        return _AddRmsNorm.apply(x_BTD, delta_BTD, gain, eps, dtype, way)
    sum_BTD = x_BTD if delta_BTD is None else x_BTD + delta_BTD
    return sum_BTD, rms_norm(sum_BTD, gain, eps).to(dtype)


def norm_gains(stacked_LD: Tensor, *, way: Way) -> tuple[Tensor, ...]:
    """Return the gain of each layer as `add_rms_norm` takes it.

    For a GPU's kernel that is [P, D], the same row for each program it runs: each leaves its own sum as its row's
    gradient, and autograd adds up those of all layers at once.
    """
    if not _is_on_gpu(stacked_LD, way):
        return stacked_LD.unbind()
    return stacked_LD[:, None].expand(-1, way.kernels("add_rms_norm").NORM_PROGRAMS, -1).unbind()


def _is_on_gpu(x: Tensor, way: Way) -> bool:
    return way is Way.GPU and x.shape[-1] <= MAX_GPU_HIDDEN_SIZE


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Divide by the root of the mean square over the last dimension, and multiply by a gain."""
    return F.rms_norm(x, (x.shape[-1],), gain.to(x.dtype), eps)


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor | None, gain: Tensor, eps: float, dtype: torch.dtype, way: Way
    ) -> tuple[Tensor, Tensor]:
        ctx.kernels = way.kernels("add_rms_norm")
        gain_D = gain[0] if gain.ndim == 2 else gain
        rows = (x.flatten(0, -2), None if delta is None else delta.flatten(0, -2).to(x.dtype))
        sum_ND, normed_ND, inverse_N = ctx.kernels.add_rms_norm_forward(*rows, gain_D, eps, dtype)
        ctx.save_for_backward(sum_ND, gain_D, inverse_N)
        ctx.has_delta, ctx.delta_dtype = delta is not None, delta.dtype if delta is not None else None
        ctx.set_materialize_grads(False)
        total = x.view_as(x) if delta is None else sum_ND.view(x.shape)
        return total, normed_ND.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sum_grad, normed_grad = grads
        assert normed_grad is not None, "a norm whose result nothing uses"
        sum_ND, gain_D, inverse_N = ctx.saved_tensors
        upper_ND = None if sum_grad is None else sum_grad.flatten(0, -2).contiguous()
        grad_ND, gain_grad = ctx.kernels.add_rms_norm_backward(
            *(sum_ND, gain_D, inverse_N, upper_ND, normed_grad.flatten(0, -2).contiguous()),
            learns_gain=ctx.needs_input_grad[2],
        )
        grad = grad_ND.view(normed_grad.shape)
        return grad, grad.to(ctx.delta_dtype) if ctx.has_delta else None, gain_grad, None, None, None
