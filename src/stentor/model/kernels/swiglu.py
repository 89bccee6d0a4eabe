"""The gated activation of the MLP, and its gradient."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import blocks_of, gpu_kernel

_SWIGLU_BLOCK = 1024


def swiglu_forward(gate_up_NF: Tensor) -> Tensor:
    """Return silu(gate) * up [N, F / 2] of gate and up beside each other [N, F]."""
    num_rows, width = gate_up_NF.shape[0], gate_up_NF.shape[1] // 2
    out_NF = torch.empty(num_rows, width, dtype=gate_up_NF.dtype, device=gate_up_NF.device)
    _swiglu[(blocks_of(num_rows * width, _SWIGLU_BLOCK),)](
        gate_up_NF, out_NF, num_rows * width, width, BLOCK=_SWIGLU_BLOCK
    )
    return out_NF


@gpu_kernel
def _swiglu(gate_up, out, count, width, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = gate_up + index // width * 2 * width + index % width
    gate = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(place + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + index, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


def swiglu_backward(gate_up_NF: Tensor, out_grad_NF: Tensor) -> Tensor:
    """Return the gradient of gate and up beside each other [N, F]."""
    grad_NF = torch.empty_like(gate_up_NF)
    count, width = out_grad_NF.numel(), out_grad_NF.shape[1]
    _swiglu_backward[(blocks_of(count, _SWIGLU_BLOCK),)](
        gate_up_NF, out_grad_NF, grad_NF, count, width, BLOCK=_SWIGLU_BLOCK
    )
    return grad_NF


@gpu_kernel
def _swiglu_backward(gate_up, out_grad, grad, count, width, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = index // width * 2 * width + index % width
    gate = tl.load(gate_up + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + place + width, mask=inside, other=0.0).to(tl.float32)
    above = tl.load(out_grad + index, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    tl.store(grad + place, (above * up * (sigmoid + silu * (1 - sigmoid))).to(grad.dtype.element_ty), mask=inside)
    tl.store(grad + place + width, (above * silu).to(grad.dtype.element_ty), mask=inside)
