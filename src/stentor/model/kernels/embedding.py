"""Rows of a table, and the sums of their gradients."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import gpu_kernel, power_of_2


def embed_forward(ids_N: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of each id in `dtype` [N, D]."""
    out_ND = torch.empty(ids_N.numel(), weight_VD.shape[1], dtype=dtype, device=ids_N.device)
    width = weight_VD.shape[1]
    _embed[(ids_N.numel(),)](ids_N, weight_VD, out_ND, width, BLOCK=power_of_2(width), num_warps=1)
    return out_ND


@gpu_kernel
def _embed(ids, weight, out, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    row = tl.load(weight + tl.load(ids + token) * width + columns, mask=columns < width, other=0.0)
    tl.store(out + token * width + columns, row.to(out.dtype.element_ty), mask=columns < width)


def embed_backward(ids_N: Tensor, out_grad_ND: Tensor, vocab_size: int) -> Tensor:
    """Return the gradient of the table, float32 [V, D]; its sums are made in no fixed order."""
    width = out_grad_ND.shape[1]
    grad_VD = torch.zeros(vocab_size, width, dtype=torch.float32, device=ids_N.device)
    _embed_backward[(ids_N.numel(),)](ids_N, out_grad_ND, grad_VD, width, BLOCK=power_of_2(width), num_warps=1)
    return grad_VD


@gpu_kernel
def _embed_backward(ids, out_grad, grad, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    above = tl.load(out_grad + token * width + columns, mask=columns < width, other=0.0).to(tl.float32)
    tl.atomic_add(grad + tl.load(ids + token) * width + columns, above, mask=columns < width, sem="relaxed")
