"""What a teacher expects at a place, kept as a few tokens that stand for its whole distribution.

Of K tokens three quarters are the likeliest ones, with their probabilities; the rest are drawn from what is left and
stand for it in equal parts, so that on average every token has its probability: a student that learns from them learns
from the distribution itself. A place is one row of 2K numbers of 16 bits: K token ids, then K probabilities (float16).
A probability of zero marks a number that stands for nothing.

Reference: Anshumann et al. 2025, "Sparse Logit Sampling", arXiv 2503.16870 (why the likeliest alone mislead).
"""

from __future__ import annotations

import torch
from torch import Tensor

_IDS_MASK = 0xFFFF


def drawn(logits_NV: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows that stand for the distributions of logits, int16 [N, 2 * count].

    What is left after the likeliest is drawn at equal distances of its cumulated probability from one random start,
    which gives each token its share with the least chance. A token that is met again is kept once, with both shares.

    Args:
        logits_NV: of at most 65,536 tokens.
        count: tokens to keep, a multiple of 4 and at most V.
        generator: of the random starts, on the device of the logits.
    """
    num_drawn = count // 4
    q_NV = logits_NV.float().softmax(dim=-1)
    likeliest_NK, ids_NK = q_NV.topk(count - num_drawn, dim=-1)
    cumulated_NV = q_NV.scatter_(1, ids_NK, 0.0).cumsum(dim=-1)
    left_N1 = cumulated_NV[:, -1:].contiguous()
    starts_N1 = torch.rand(left_N1.shape, generator=generator, device=logits_NV.device)
    points_NM = (starts_N1 + torch.arange(num_drawn, device=logits_NV.device)) * (left_N1 / num_drawn)
    drawn_NM = torch.searchsorted(cumulated_NV, points_NM, right=True).clamp_(max=q_NV.shape[1] - 1)
    return packed(
        torch.cat((ids_NK, drawn_NM), dim=1), torch.cat((likeliest_NK, _merged(drawn_NM, left_N1 / num_drawn)), dim=1)
    )


def packed(ids_NK: Tensor, weights_NK: Tensor) -> Tensor:
    """Return ids below 65,536 and their probabilities as rows, int16 [N, 2K]."""
    return torch.cat((ids_NK.to(torch.int16), weights_NK.to(torch.float16).view(torch.int16)), dim=1)


def unpacked(rows_NE: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids, int64, and the probabilities, float32, that rows hold, each [N, K]; those of a row sum to one."""
    ids_NK, bits_NK = rows_NE.chunk(2, dim=1)
    weights_NK = bits_NK.contiguous().view(torch.float16).float()
    return ids_NK.long() & _IDS_MASK, weights_NK / weights_NK.sum(dim=1, keepdim=True)


def _merged(ids_NM: Tensor, each_N1: Tensor) -> Tensor:
    """Return the weights [N, M] of ids in ascending order: the first of equal ones has those of all."""
    is_equal_NMM = ids_NM[:, :, None] == ids_NM[:, None, :]
    is_first_NM = ~is_equal_NMM.tril(diagonal=-1).any(dim=2)
    return is_equal_NMM.sum(dim=2) * each_N1 * is_first_NM
