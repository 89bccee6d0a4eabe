"""The loss of each row of logits, and its gradient in their place."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import gpu_kernel, power_of_2

_IGNORED = tl.constexpr(-100)
WARPS_OF_ROW = {8192: 8, 16_384: 16, 32_768: 32}


def cross_entropy_in_place(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return -ln p of each target, float32 [N], and replace the logits by their gradient.

    Args:
        logits_NV: contiguous; at most 32,768 columns.
        targets_N: int64; a target of -100 gives a loss and a gradient of zero.
    """
    num_rows, vocab_size = logits_NV.shape
    nats_N = torch.empty(num_rows, dtype=torch.float32, device=logits_NV.device)
    block = max(1024, power_of_2(vocab_size))
    warps = WARPS_OF_ROW.get(block, 4)
    _cross_entropy[(num_rows,)](logits_NV, targets_N, nats_N, vocab_size, BLOCK=block, num_warps=warps)
    return nats_N


@gpu_kernel
def _cross_entropy(logits, targets, nats, vocab_size, BLOCK: tl.constexpr):
    """Take one row: it is read once, and its gradient written over it."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    start = logits + row * vocab_size
    is_scored = target != _IGNORED
    chosen = tl.load(start + tl.where(is_scored, target, 0)).to(tl.float32)
    columns = tl.arange(0, BLOCK)
    inside = columns < vocab_size
    values = tl.load(start + columns, mask=inside, other=-float("inf")).to(tl.float32)
    largest = tl.max(values, axis=0)
    powers = tl.exp(values - largest)
    total = tl.sum(powers, axis=0)
    tl.store(nats + row, tl.where(is_scored, tl.log(total) + largest - chosen, 0.0))
    weight = tl.where(is_scored, 1.0 / total, 0.0)
    gradient = powers * weight - tl.where(is_scored & (columns == target), 1.0, 0.0)
    tl.debug_barrier()  # every thread has read the target's logit before any writes over it
    tl.store(start + columns, gradient.to(logits.dtype.element_ty), mask=inside)
