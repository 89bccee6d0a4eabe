"""Causal attention of whole sequences."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way


def attend_causally(q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, *, way: Way) -> Tensor:
    """Let each token attend to itself and those before it, K key/value heads shared by N query heads.

    Args:
        q_BNTH: queries.
        k_BKTH: keys, of the same type.
        v_BKTH: values, of the same type.
        way: of computing it; torch's own is the best on a GPU.

    Returns:
        What was attended to, heads merged [B, T, N * H].

    Reference: Ainslie et al. 2023, "GQA", arXiv 2305.13245.
    """
    if way is Way.CPU:
        shared = q_BNTH.shape[1] // k_BKTH.shape[1]
        k_BNTH, v_BNTH = (x if shared == 1 else x.repeat_interleave(shared, dim=1) for x in (k_BKTH, v_BKTH))
        return _AttendOnCpu.apply(q_BNTH, k_BNTH, v_BNTH)
    out_BNTH = F.scaled_dot_product_attention(
        q_BNTH, k_BKTH, v_BKTH, is_causal=True, enable_gqa=q_BNTH.shape[1] != k_BKTH.shape[1]
    )
    return out_BNTH.transpose(1, 2).flatten(2)


class _AttendOnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BNTH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor) -> Tensor:
        from stentor.model.kernels_cpu.attention import attend_forward

        pairs = [x.contiguous().flatten(0, 1) for x in (q_BNTH, k_BNTH, v_BNTH)]
        out_PTH, log_sums_PT = attend_forward(*pairs)
        ctx.save_for_backward(*pairs, out_PTH, log_sums_PT)
        return out_PTH.view(q_BNTH.shape).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        from stentor.model.kernels_cpu.attention import attend_backward, split_heads

        q_PTH, k_PTH, v_PTH, out_PTH, log_sums_PT = ctx.saved_tensors
        grad_BTE = grads[0].contiguous()
        grad_PTH, inner_PT = split_heads(out_PTH, grad_BTE)
        shape = len(grad_BTE), -1, *out_PTH.shape[1:]
        found = attend_backward(q_PTH, k_PTH, v_PTH, log_sums_PT, grad_PTH, inner_PT)
        return tuple(grad.view(shape) for grad in found)
