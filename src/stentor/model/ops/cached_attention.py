"""Attention of one new token of each sequence over the tokens before it, in a shape that never changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way

IDLE = -1
"""The position of a sequence that has no new token."""


def attend_cached(
    heads: tuple[Tensor, Tensor, Tensor], kept: tuple[Tensor, Tensor], positions_B: Tensor, *, way: Way
) -> Tensor:
    """Keep a token's keys and values at its position, and let it attend to itself and all before it.

    No shape depends on a position, so that a GPU can record it once for all of them.

    Args:
        heads: of one token of each sequence: queries [B, N, H], keys and values [B, K, H].
        kept: keys and values of one layer so far, of the same type, with room for one token more than the context
            [B, K, S, H]; written to.
        positions_B: of the tokens; what an `IDLE` sequence had is left as it is, and its row is undefined.
        way: of computing it.

    Returns:
        What was attended to, heads merged [B, N * H].

    Reference: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", arXiv 1805.02867.
    """
    (q_BNH, k_BKH, v_BKH), (k_BKSH, v_BKSH) = heads, kept
    if way is Way.GPU:
        from stentor.model.kernels.cached_attention import attend_cached_forward

        return attend_cached_forward(q_BNH, k_BKH, v_BKH, k_BKSH, v_BKSH, positions_B)
    rows_B = torch.arange(len(positions_B), device=positions_B.device)
    k_BKSH[rows_B, :, positions_B] = k_BKH  # of an idle sequence in the last place, which no token has
    v_BKSH[rows_B, :, positions_B] = v_BKH
    places_S = torch.arange(k_BKSH.shape[2], device=positions_B.device)
    out_BN1H = F.scaled_dot_product_attention(
        q_BNH[:, :, None],
        k_BKSH,
        v_BKSH,
        attn_mask=(places_S <= positions_B[:, None])[:, None, None],
        enable_gqa=q_BNH.shape[1] != k_BKSH.shape[1],
    )
    return out_BN1H.flatten(1)
