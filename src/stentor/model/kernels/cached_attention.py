"""A new token's attention over the tokens before it, whose keys and values are kept."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import gpu_kernel, power_of_2

_KEYS, _WARPS = 128, 4


def attend_cached_forward(
    q_BNH: Tensor, k_BKH: Tensor, v_BKH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, positions_B: Tensor
) -> Tensor:
    """Store keys and values and attend [B, N * H]; see `ops.attend_cached`. Rows of idle sequences are left unset.

    Args:
        q_BNH: queries, the heads of a token one behind the other.
        k_BKH: new keys, likewise.
        v_BKH: new values, likewise.
        k_BKSH: keys so far, of one layer.
        v_BKSH: values so far, which lie as the keys do.
        positions_B: of the new tokens.
    """
    batch, heads, head_dim = q_BNH.shape
    out_BE = torch.empty(batch, heads * head_dim, dtype=q_BNH.dtype, device=q_BNH.device)
    _attend_cached[(batch, heads)](
        *(q_BNH, k_BKH, v_BKH, k_BKSH, v_BKSH, positions_B, out_BE),
        *(q_BNH.stride(0), k_BKH.stride(0), v_BKH.stride(0), k_BKSH.stride(0), k_BKSH.stride(1)),
        *(heads // k_BKH.shape[1], head_dim, head_dim**-0.5),
        KEYS=_KEYS,
        LANES=power_of_2(head_dim),
        num_warps=_WARPS,
    )
    return out_BE


@gpu_kernel
def _attend_cached(
    q, k, v, k_cache, v_cache, positions, out, q_stride, k_stride, v_stride, row_stride, head_stride, shared, head_dim,
    scale, KEYS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Take one head of one sequence; the softmax is summed up block by block, each time relative to the largest."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    position = tl.load(positions + row)
    if position >= 0:
        lanes, key_head = tl.arange(0, LANES), head // shared
        inside = lanes < head_dim
        query = tl.load(q + row * q_stride + head * head_dim + lanes, mask=inside, other=0.0).to(tl.float32) * scale
        new_key = tl.load(k + row * k_stride + key_head * head_dim + lanes, mask=inside, other=0.0)
        new_value = tl.load(v + row * v_stride + key_head * head_dim + lanes, mask=inside, other=0.0)
        kept = row * row_stride + key_head * head_stride
        if head % shared == 0:  # the others of the group have them from where this one has
            tl.store(k_cache + kept + position * head_dim + lanes, new_key, mask=inside)
            tl.store(v_cache + kept + position * head_dim + lanes, new_value, mask=inside)
        largest = tl.sum(query * new_key.to(tl.float32), axis=0)
        total = largest * 0.0 + 1.0
        sums = new_value.to(tl.float32)
        for start in range(0, position, KEYS):
            keys = start + tl.arange(0, KEYS)
            place = kept + keys[:, None] * head_dim + lanes[None, :]
            known = (keys < position)[:, None] & inside[None, :]
            seen = tl.load(k_cache + place, mask=known, other=0.0).to(tl.float32)
            scores = tl.where(keys < position, tl.sum(seen * query[None, :], axis=1), float("-inf"))
            higher = tl.maximum(largest, tl.max(scores, axis=0))
            shrink, weights = tl.exp(largest - higher), tl.exp(scores - higher)
            values = tl.load(v_cache + place, mask=known, other=0.0).to(tl.float32)
            total = total * shrink + tl.sum(weights, axis=0)
            sums = sums * shrink + tl.sum(weights[:, None] * values, axis=0)
            largest = higher
        place = out + (row * tl.num_programs(1) + head) * head_dim + lanes
        tl.store(place, (sums / total).to(out.dtype.element_ty), mask=inside)
