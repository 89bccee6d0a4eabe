"""Queries, keys and values taken apart; the former two normalised per head, where there are gains, and rotated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stentor.model.kernels_cpu.compiled import bits, cpu_kernel, read, rounded
from stentor.model.kernels_cpu.threads import blocks_of, over_row_blocks

_ROWS = 64


def turn_heads_forward(
    qkv_BTE: Tensor,
    cos_TH: Tensor,
    sin_TH: Tensor,
    gains_2H: Tensor | None,
    num_heads: tuple[int, int],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [B, queries, T, H], keys and values [B, keys, T, H], each contiguous.

    Args:
        qkv_BTE: contiguous.
        cos_TH: of each position; both halves of a row are equal.
        sin_TH: likewise.
        gains_2H: float32, of queries and keys.
        num_heads: of queries, and of keys.
        eps: of the norm.
    """
    (batch, tokens, _), head_dim = qkv_BTE.shape, cos_TH.shape[1]
    q, k, v = (qkv_BTE.new_empty(batch, heads, tokens, head_dim) for heads in (*num_heads, num_heads[1]))
    gains = None if gains_2H is None else bits(gains_2H)
    tables = bits(cos_TH), bits(sin_TH), gains
    arrays = bits(qkv_BTE.flatten(0, 1)), *tables, bits(q), bits(k), bits(v)
    epsilon = np.float32(eps)
    over_row_blocks(lambda _, start, end: _forward(*arrays, epsilon, start, end), batch * tokens, _ROWS)
    return q, k, v


@cpu_kernel
def _forward(qkv: Any, cos: Any, sin: Any, gains: Any, q: Any, k: Any, v: Any, eps: Any, start: int, end: int) -> None:
    queries, keys, tokens, width = q.shape[1], k.shape[1], q.shape[2], q.shape[3]
    half = width // 2
    for row in range(start, end):
        sequence, token = row // tokens, row % tokens
        for head in range(queries + keys):
            heads = qkv[row, head * width : (head + 1) * width]
            lower, upper = heads[:half], heads[half:]
            turned = q[sequence, head, token] if head < queries else k[sequence, head - queries, token]
            turned_lower, turned_upper = turned[:half], turned[half:]
            scale = np.float32(1.0)
            if gains is not None:
                squares = np.float32(0.0)
                for place in range(width):
                    squares += read(heads[place]) * read(heads[place])
                scale /= np.sqrt(squares / np.float32(width) + eps)
            for place in range(half):
                a, b = read(lower[place]) * scale, read(upper[place]) * scale
                if gains is not None:
                    gain = gains[np.int64(head >= queries)]
                    a, b = a * gain[place], b * gain[half:][place]
                c, s = cos[token, place], sin[token, place]
                turned_lower[place] = rounded(a * c - b * s, q)
                turned_upper[place] = rounded(b * c + a * s, q)
        for head in range(keys):
            first = (queries + keys + head) * width
            v[sequence, head, token, :] = qkv[row, first : first + width]


def turn_heads_backward(
    qkv_BTE: Tensor | None,
    cos_TH: Tensor,
    sin_TH: Tensor,
    gains_2H: Tensor | None,
    grads: tuple[Tensor, Tensor, Tensor],
    eps: float,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of queries, keys and values, merged again [B, T, E], and of the gains, float32 [2, H].

    Args:
        qkv_BTE: as in the forward pass, like all that is not named here; not needed without gains.
        cos_TH: see there.
        sin_TH: see there.
        gains_2H: see there.
        grads: of queries, keys and values [B, heads, T, H], contiguous.
        eps: of the norm.
    """
    batch, queries, tokens, head_dim = grads[0].shape
    grad_BTE = grads[0].new_empty(batch, tokens, (queries + 2 * grads[1].shape[1]) * head_dim)
    gain_grads_P2H = torch.zeros(blocks_of(batch * tokens, _ROWS), 2, head_dim)
    gains = None if gains_2H is None else bits(gains_2H)
    qkv = None if qkv_BTE is None else bits(qkv_BTE.flatten(0, 1))
    q_grad, k_grad, v_grad = grads
    turned = bits(cos_TH), bits(sin_TH), bits(q_grad), bits(k_grad), bits(v_grad)
    arrays = qkv, gains, *turned, bits(grad_BTE.flatten(0, 1)), bits(gain_grads_P2H)
    epsilon = np.float32(eps)
    over_row_blocks(lambda block, start, end: _backward(*arrays, epsilon, block, start, end), batch * tokens, _ROWS)
    return grad_BTE, None if gains_2H is None else gain_grads_P2H.sum(dim=0)


@cpu_kernel
def _backward(
    qkv: Any, gains: Any, cos: Any, sin: Any, q_grad: Any, k_grad: Any, v_grad: Any, grads: Any, gain_grads: Any,
    eps: Any, block: int, start: int, end: int,
) -> None:  # fmt: skip
    queries, keys, tokens, width = q_grad.shape[1], k_grad.shape[1], q_grad.shape[2], q_grad.shape[3]
    half = width // 2
    turned_back = np.empty(width, dtype=np.float32)
    lower, upper = turned_back[:half], turned_back[half:]
    for row in range(start, end):
        sequence, token = row // tokens, row % tokens
        for head in range(queries + keys):
            above = q_grad[sequence, head, token] if head < queries else k_grad[sequence, head - queries, token]
            above_lower, above_upper = above[:half], above[half:]
            for place in range(half):
                a, b = read(above_lower[place]), read(above_upper[place])
                c, s = cos[token, place], sin[token, place]
                lower[place] = a * c + b * s
                upper[place] = b * c - a * s
            grad = grads[row, head * width : (head + 1) * width]
            if gains is not None:
                which, heads = np.int64(head >= queries), qkv[row, head * width : (head + 1) * width]
                _through_norm(heads, gains[which], eps, turned_back, gain_grads[block, which])
            for place in range(width):
                grad[place] = rounded(turned_back[place], grads)
        for head in range(keys):
            first = (queries + keys + head) * width
            grads[row, first : first + width] = v_grad[sequence, head, token]


@cpu_kernel
def _through_norm(heads: Any, gain: Any, eps: Any, grad: Any, gain_grad: Any) -> None:
    """Turn the gradient of one normalised head into that of the head, in place, and add up the gain's."""
    width = len(grad)
    squares, along = np.float32(0.0), np.float32(0.0)
    for place in range(width):
        value = read(heads[place])
        squares += value * value
        along += value * grad[place] * gain[place]
    scale = np.float32(1.0) / np.sqrt(squares / np.float32(width) + eps)
    along *= scale * scale / np.float32(width)
    for place in range(width):
        value = read(heads[place])
        gain_grad[place] += grad[place] * value * scale
        grad[place] = (grad[place] * gain[place] - value * along) * scale
