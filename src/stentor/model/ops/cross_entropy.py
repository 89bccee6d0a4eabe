"""The head and the loss of its logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.labels import IGNORED_LABEL
from stentor.model.ops.products import beside
from stentor.model.ops.way import Way

MAX_GPU_VOCAB_SIZE = 32_768
"""Longer rows do not fit the registers of one block of threads."""
CPU_TOKENS = 512
"""Tokens whose logits are made at a time on a CPU."""


def linear_cross_entropy(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, way: Way) -> Tensor:
    """Return the summed -ln p of targets under logits x @ weight.T, a float32 scalar.

    The logits are the largest tensor of a step. The fused ways write them once, by the product; a kernel reads
    them once and puts their gradient in their place; the products of the backward pass read that. On a CPU all of it
    is done for a few tokens at a time, so that the logits stay in the cache.

    Args:
        x_ND: hidden states.
        weight_VD: the head, of the same type, from `unstacked`.
        targets_N: int64; -100 is ignored.
        way: of computing it.
    """
    if way is Way.CPU:
        return _OnCpu.apply(x_ND, weight_VD, targets_N)
    if way is Way.GPU and weight_VD.shape[0] <= MAX_GPU_VOCAB_SIZE:
        return _OnGpu.apply(x_ND, weight_VD, targets_N)
    logits_NV = F.linear(x_ND, weight_VD).float()
    return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED_LABEL, reduction="sum")


class _OnGpu(torch.autograd.Function):
    """The gradient of the logits is made in the forward pass; the loss's own gradient scales what comes of it."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        from stentor.model.kernels.cross_entropy import cross_entropy_in_place

        logits_NV = x_ND @ weight_VD.T
        nats_N = cross_entropy_in_place(logits_NV, targets_N)
        ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        return nats_N.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_ND, weight_VD, logits_grad_NV = ctx.saved_tensors
        return *factor_grads(x_ND, weight_VD, logits_grad_NV, grads[0]), None


def factor_grads(x_ND: Tensor, weight_VD: Tensor, logits_grad_NV: Tensor, loss_grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the two factors of logits, given that of the logits by the loss, and the loss's own."""
    scale = loss_grad.to(x_ND.dtype)
    weight_grad_VD = beside(lambda grad_NV, x_ND, scale: (grad_NV.T @ x_ND) * scale, logits_grad_NV, x_ND, scale)
    return (logits_grad_NV @ weight_VD) * scale, weight_grad_VD


class _OnCpu(torch.autograd.Function):
    """Both products' gradients are made in the forward pass, while the logits are near."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        from stentor.model.kernels_cpu.cross_entropy import cross_entropy_in_place

        x_grad_ND, weight_grad_VD = torch.empty_like(x_ND), torch.zeros_like(weight_VD, dtype=torch.float32)
        logits_MV = x_ND.new_empty(min(CPU_TOKENS, len(x_ND)), len(weight_VD))
        total = torch.zeros((), dtype=torch.float64)
        for x_MD, targets_M, grad_MD in zip(*(x.split(CPU_TOKENS) for x in (x_ND, targets_N, x_grad_ND)), strict=True):
            part_MV = logits_MV[: len(x_MD)]
            torch.mm(x_MD, weight_VD.T, out=part_MV)
            total += cross_entropy_in_place(part_MV, targets_M).sum(dtype=torch.float64)
            torch.mm(part_MV, weight_VD, out=grad_MD)
            weight_grad_VD += part_MV.T @ x_MD
        ctx.save_for_backward(x_grad_ND, weight_grad_VD.to(weight_VD.dtype))
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_grad_ND, weight_grad_VD = ctx.saved_tensors
        scale = grads[0].to(x_grad_ND.dtype)
        return x_grad_ND * scale, weight_grad_VD * scale, None
