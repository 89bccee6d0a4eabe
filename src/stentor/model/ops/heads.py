"""Queries, keys and values: taken apart, normalised and rotated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stentor.model.ops.norm import rms_norm
from stentor.model.ops.way import Way


def turn_heads(
    qkv_BTE: Tensor,
    rotary: tuple[Tensor, Tensor],
    gains: tuple[Tensor, Tensor] | None,
    *,
    num_heads: tuple[int, int],
    eps: float,
    way: Way,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take queries, keys and values apart; normalise the former two per head where there are gains, and rotate them.

    Args:
        qkv_BTE: queries, keys and values of each token, one behind the other.
        rotary: cosines and sines [T, H] of the tokens' positions.
        gains: of queries and of keys, from `head_gains`, or None for a network without these norms.
        num_heads: of queries, and of keys.
        eps: of the norm.
        way: of computing it.

    Returns:
        Queries [B, N, T, H], keys and values [B, K, T, H].

    Reference: Su et al. 2021, "RoFormer" (RoPE), arXiv 2104.09864, eq. 34.
    """
    queries, keys = num_heads
    head_dim = rotary[0].shape[-1]
    if way is Way.CPU:
        return _TurnHeadsOnCpu.apply(qkv_BTE, *rotary, None if gains is None else torch.stack(gains), num_heads, eps)
    if _is_on_gpu(head_dim, way):
        return _TurnHeadsOnGpu.apply(qkv_BTE, *rotary, *(gains or (None, None)), num_heads, eps)
    heads_BTNH = qkv_BTE.unflatten(-1, (-1, head_dim))
    q_BTNH, k_BTKH, v_BTKH = heads_BTNH.split((queries, keys, keys), dim=2)
    if gains is not None:
        q_BTNH, k_BTKH = rms_norm(q_BTNH, gains[0], eps), rms_norm(k_BTKH, gains[1], eps)
    q_BTNH, k_BTKH = (rotate(x_BTNH, *rotary).to(qkv_BTE.dtype) for x_BTNH in (q_BTNH, k_BTKH))
    return q_BTNH.transpose(1, 2), k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)


def head_gains(stacked_LH: Tensor, num_heads: int, *, way: Way) -> tuple[Tensor, ...]:
    """Return the gain of each layer as `turn_heads` takes it: for a GPU's kernel [P, H], see `norm_gains`."""
    if not _is_on_gpu(stacked_LH.shape[-1], way):
        return stacked_LH.unbind()
    return stacked_LH[:, None].expand(-1, num_heads * way.kernels("turn_heads").HEAD_PROGRAMS, -1).unbind()


def _is_on_gpu(head_dim: int, way: Way) -> bool:
    return way is Way.GPU and head_dim & (head_dim - 1) == 0


def rotate(x_BTNH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Rotate each pair (i, i + H/2) by its position's angle."""
    first, second = x_BTNH.chunk(2, dim=-1)
    return x_BTNH * cos_TH[:, None] + torch.cat((-second, first), dim=-1) * sin_TH[:, None]


class _TurnHeadsOnGpu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv_BTE: Tensor,
        cos_TH: Tensor,
        sin_TH: Tensor,
        q_gains_PH: Tensor | None,
        k_gains_PH: Tensor | None,
        num_heads: tuple[int, int],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from stentor.model.kernels.turn_heads import turn_heads_forward

        batch, tokens, _ = qkv_BTE.shape
        queries, keys = num_heads
        flat_NE = qkv_BTE.flatten(0, 1)
        gains = (q_gains_PH[0], k_gains_PH[0]) if q_gains_PH is not None and k_gains_PH is not None else None
        turned = turn_heads_forward(flat_NE, cos_TH, sin_TH, gains, num_heads, eps)
        ctx.save_for_backward(flat_NE, cos_TH, sin_TH, *(gains or ()))
        ctx.eps = eps
        head_dim = cos_TH.shape[1]
        v_BTKH = qkv_BTE[..., (queries + keys) * head_dim :].unflatten(-1, (keys, head_dim))
        q_BTNH, k_BTKH = (x.view(batch, tokens, -1, head_dim) for x in turned)
        return q_BTNH.transpose(1, 2), k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from stentor.model.kernels.turn_heads import turn_heads_backward

        flat_NE, cos_TH, sin_TH, *gains = ctx.saved_tensors
        batch, _, tokens, _ = grads[0].shape
        q_grad, k_grad, v_grad = (grad.transpose(1, 2).contiguous().flatten(0, 1) for grad in grads)
        grad_NE, gain_grads = turn_heads_backward(
            *(flat_NE, cos_TH, sin_TH, tuple(gains) or None, (q_grad, k_grad, v_grad), ctx.eps),
            learns_gains=ctx.needs_input_grad[3],
        )
        return grad_NE.view(batch, tokens, -1), None, None, *gain_grads, None, None


class _TurnHeadsOnCpu(torch.autograd.Function):
    """Each head's tokens come to lie one behind the other, as attention on the CPU wants them."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv_BTE: Tensor,
        cos_TH: Tensor,
        sin_TH: Tensor,
        gains_2H: Tensor | None,
        num_heads: tuple[int, int],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from stentor.model.kernels_cpu.turn_heads import turn_heads_forward

        # Without norms the gradient depends on the angles alone.
        ctx.save_for_backward(cos_TH, sin_TH, gains_2H, None if gains_2H is None else qkv_BTE)
        ctx.eps = eps
        return turn_heads_forward(qkv_BTE, cos_TH, sin_TH, gains_2H, num_heads, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from stentor.model.kernels_cpu.turn_heads import turn_heads_backward

        cos_TH, sin_TH, gains_2H, qkv_BTE = ctx.saved_tensors
        q_grad, k_grad, v_grad = (grad.contiguous() for grad in grads)
        grad_BTE, gain_grads_2H = turn_heads_backward(
            qkv_BTE, cos_TH, sin_TH, gains_2H, (q_grad, k_grad, v_grad), ctx.eps
        )
        return grad_BTE, None, None, gain_grads_2H, None, None
