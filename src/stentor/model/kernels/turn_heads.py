"""Queries and keys normalised per head and rotated, and the way back."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import blocks_of, gpu_kernel

HEAD_PROGRAMS = 86
"""For each head, where gains are learned: as few as fill a GPU, for each leaves a sum to be added up."""
_HEAD_TOKENS, _HEAD_WARPS = 64, 4


def turn_heads_forward(
    qkv_NE: Tensor,
    cos_TH: Tensor,
    sin_TH: Tensor,
    gains: tuple[Tensor, Tensor] | None,
    num_heads: tuple[int, int],
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return queries [N, heads, H] and keys [N, key heads, H], normalised where there are gains, and rotated.

    Args:
        qkv_NE: queries, keys and values of each token, one behind the other.
        cos_TH: cosines of each position; token n is at position n % T.
        sin_TH: sines of each position.
        gains: of queries and of keys [H], float32.
        num_heads: of queries, and of keys.
        eps: of the norm.
    """
    num_tokens, head_dim = qkv_NE.shape[0], cos_TH.shape[1]
    queries, keys = num_heads
    q_NNH = torch.empty(num_tokens, queries, head_dim, dtype=qkv_NE.dtype, device=qkv_NE.device)
    k_NKH = torch.empty(num_tokens, keys, head_dim, dtype=qkv_NE.dtype, device=qkv_NE.device)
    _turn_heads[(blocks_of(num_tokens, _HEAD_TOKENS), queries + keys)](
        *(qkv_NE, cos_TH, sin_TH, *(gains or (cos_TH, cos_TH)), q_NNH, k_NKH),
        *(num_tokens, cos_TH.shape[0], qkv_NE.shape[1], queries, keys, eps),
        NORMS=gains is not None,
        TOKENS=_HEAD_TOKENS,
        HALF=head_dim // 2,
        num_warps=_HEAD_WARPS,
    )
    return q_NNH, k_NKH


@gpu_kernel
def _turn_heads(
    qkv, cos, sin, q_gain, k_gain, q, k, num_tokens, num_positions, width, queries, keys, eps, NORMS: tl.constexpr,
    TOKENS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Take one head of some tokens; the two halves of a head are what RoPE turns into each other."""
    tokens, head = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.program_id(1)
    lower = tl.arange(0, HALF)
    inside = (tokens < num_tokens)[:, None] & (lower < HALF)[None, :]
    place = qkv + tokens.to(tl.int64)[:, None] * width + head * 2 * HALF + lower[None, :]
    a = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    is_key = head >= queries
    if NORMS:
        scale = tl.rsqrt((tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)) / (2 * HALF) + eps)
        first_gain = tl.where(is_key, tl.load(k_gain + lower), tl.load(q_gain + lower))
        second_gain = tl.where(is_key, tl.load(k_gain + HALF + lower), tl.load(q_gain + HALF + lower))
        a, b = a * scale[:, None] * first_gain[None, :], b * scale[:, None] * second_gain[None, :]
    turn = (tokens % num_positions)[:, None] * 2 * HALF + lower[None, :]
    c, s = tl.load(cos + turn, mask=inside, other=0.0), tl.load(sin + turn, mask=inside, other=0.0)
    heads = tl.where(is_key, keys, queries)
    offset = (tokens.to(tl.int64)[:, None] * heads + tl.where(is_key, head - queries, head)) * 2 * HALF + lower[None, :]
    first, second = (a * c - b * s).to(qkv.dtype.element_ty), (b * c + a * s).to(qkv.dtype.element_ty)
    if is_key:
        tl.store(k + offset, first, mask=inside)
        tl.store(k + offset + HALF, second, mask=inside)
    else:
        tl.store(q + offset, first, mask=inside)
        tl.store(q + offset + HALF, second, mask=inside)


def turn_heads_backward(
    qkv_NE: Tensor,
    cos_TH: Tensor,
    sin_TH: Tensor,
    gains: tuple[Tensor, Tensor] | None,
    grads: tuple[Tensor, Tensor, Tensor],
    eps: float,
    *,
    learns_gains: bool,
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """Return the gradient of queries, keys and values, merged again [N, E], and of the gains of queries and of keys.

    Those are a sum for each program, float32 [P, H], to be added up.

    Args:
        qkv_NE: as in the forward pass, like all that is not named here.
        cos_TH: see there.
        sin_TH: see there.
        gains: see there.
        grads: of queries, keys and values [N, heads, H], contiguous.
        eps: of the norm.
        learns_gains: whether the gradient of the gains is wanted.
    """
    num_tokens, head_dim = qkv_NE.shape[0], cos_TH.shape[1]
    queries, keys = grads[0].shape[1], grads[1].shape[1]
    grad_NE = torch.empty_like(qkv_NE)
    blocks = blocks_of(num_tokens, _HEAD_TOKENS)
    programs = HEAD_PROGRAMS if learns_gains else blocks
    gain_grads_PH = qkv_NE.new_empty((queries + keys) * programs if learns_gains else 1, head_dim, dtype=torch.float32)
    _turn_heads_backward[(programs, queries + 2 * keys)](
        *(qkv_NE, cos_TH, sin_TH, *(gains or (cos_TH, cos_TH)), *grads, grad_NE, gain_grads_PH),
        *(num_tokens, cos_TH.shape[0], qkv_NE.shape[1], queries, keys, eps),
        NORMS=gains is not None,
        LEARNS=learns_gains,
        TURNS=blocks_of(blocks, programs),
        TOKENS=_HEAD_TOKENS,
        HALF=head_dim // 2,
        num_warps=_HEAD_WARPS,
    )
    of_queries = queries * programs
    return grad_NE, (gain_grads_PH[:of_queries], gain_grads_PH[of_queries:]) if learns_gains else (None, None)


@gpu_kernel
def _turn_heads_backward(
    qkv, cos, sin, q_gain, k_gain, q_grad, k_grad, v_grad, grad, gain_grads, num_tokens, num_positions, width, queries,
    keys, eps, NORMS: tl.constexpr, LEARNS: tl.constexpr, TURNS: tl.constexpr, TOKENS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Take one head of every P-th block of tokens, so that each program sums the gains' gradient over many."""
    head, lower = tl.program_id(1), tl.arange(0, HALF)
    first_sum = tl.zeros((TOKENS, HALF), dtype=tl.float32)  # over its rows only at the end: that needs all threads
    second_sum = tl.zeros((TOKENS, HALF), dtype=tl.float32)
    for take in range(TURNS):
        tokens = (take * tl.num_programs(0) + tl.program_id(0)) * TOKENS + tl.arange(0, TOKENS)
        inside = (tokens < num_tokens)[:, None] & (lower < HALF)[None, :]
        rows = tokens.to(tl.int64)[:, None]
        place = rows * width + head * 2 * HALF + lower[None, :]
        if head < queries:
            above = q_grad + (rows * queries + head) * 2 * HALF + lower[None, :]
        elif head < queries + keys:
            above = k_grad + (rows * keys + head - queries) * 2 * HALF + lower[None, :]
        else:
            above = v_grad + (rows * keys + head - queries - keys) * 2 * HALF + lower[None, :]
        a = tl.load(above, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(above + HALF, mask=inside, other=0.0).to(tl.float32)
        if head < queries + keys:
            turn = (tokens % num_positions)[:, None] * 2 * HALF + lower[None, :]
            c, s = tl.load(cos + turn, mask=inside, other=0.0), tl.load(sin + turn, mask=inside, other=0.0)
            a, b = a * c + b * s, b * c - a * s
            if NORMS:
                x = tl.load(qkv + place, mask=inside, other=0.0).to(tl.float32)
                y = tl.load(qkv + place + HALF, mask=inside, other=0.0).to(tl.float32)
                scale = tl.rsqrt((tl.sum(x * x, axis=1) + tl.sum(y * y, axis=1)) / (2 * HALF) + eps)[:, None]
                x, y = x * scale, y * scale
                if LEARNS:
                    first_sum += a * x
                    second_sum += b * y
                first_gain = tl.where(head < queries, tl.load(q_gain + lower), tl.load(k_gain + lower))
                second_gain = tl.where(head < queries, tl.load(q_gain + HALF + lower), tl.load(k_gain + HALF + lower))
                a, b = a * first_gain[None, :], b * second_gain[None, :]
                along = ((tl.sum(a * x, axis=1) + tl.sum(b * y, axis=1)) / (2 * HALF))[:, None]
                a, b = (a - x * along) * scale, (b - y * along) * scale
        tl.store(grad + place, a.to(grad.dtype.element_ty), mask=inside)
        tl.store(grad + place + HALF, b.to(grad.dtype.element_ty), mask=inside)
    if LEARNS and head < queries + keys:
        sums = gain_grads + (head * tl.num_programs(0) + tl.program_id(0)) * 2 * HALF + lower
        tl.store(sums, tl.sum(first_sum, axis=0))
        tl.store(sums + HALF, tl.sum(second_sum, axis=0))
