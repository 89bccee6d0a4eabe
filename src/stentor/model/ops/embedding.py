"""The row of each token."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way


def embed(ids_BT: Tensor, weight_VD: Tensor, *, dtype: torch.dtype, way: Way) -> Tensor:
    """Return the row of each id [B, T, D] in `dtype`.

    The GPU's kernel adds up the rows' gradients in no fixed order; where torch is told to be deterministic, the plain
    way is taken.
    """
    if way is Way.GPU and not torch.are_deterministic_algorithms_enabled():
        return _Embed.apply(ids_BT, weight_VD, dtype)
    return F.embedding(ids_BT, weight_VD).to(dtype)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids_BT: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
        from stentor.model.kernels.embedding import embed_forward

        ctx.save_for_backward(ids_BT)
        ctx.vocab_size = weight_VD.shape[0]
        return embed_forward(ids_BT.flatten(), weight_VD, dtype).unflatten(0, ids_BT.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        from stentor.model.kernels.embedding import embed_backward

        (ids_BT,) = ctx.saved_tensors
        return None, embed_backward(ids_BT.flatten(), grads[0].flatten(0, 1).contiguous(), ctx.vocab_size), None
