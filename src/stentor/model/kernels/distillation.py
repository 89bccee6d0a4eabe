"""The loss of each row of logits against a target and another network's logits, and its gradient in their place."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import gpu_kernel, power_of_2
from stentor.model.kernels.cross_entropy import WARPS_OF_ROW

_IGNORED = tl.constexpr(-100)


def distillation_in_place(
    logits_NV: Tensor, targets_N: Tensor, teacher_logits_NV: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Return the loss and the -ln p of the target of each row, float32 [N]; replace the logits by the loss's gradient.

    Args:
        logits_NV: contiguous; at most 32,768 columns.
        targets_N: int64; a target of -100 gives losses and a gradient of zero.
        teacher_logits_NV: contiguous, of the network to learn from.
        share: of the loss that is taken against it, 0 to 1.
    """
    num_rows, vocab_size = logits_NV.shape
    losses_2N = torch.empty(2, num_rows, dtype=torch.float32, device=logits_NV.device)
    block = max(1024, power_of_2(vocab_size))
    _distillation[(num_rows,)](
        *(logits_NV, targets_N, teacher_logits_NV, losses_2N, num_rows, vocab_size, share),
        BLOCK=block,
        num_warps=WARPS_OF_ROW.get(block, 4),
    )
    return losses_2N[0], losses_2N[1]


def distillation_of_few_in_place(
    logits_NV: Tensor, targets_N: Tensor, expected_NE: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Return what `distillation_in_place` does where a few tokens stand for the teacher's distribution.

    Args:
        logits_NV: contiguous; at most 32,768 columns.
        targets_N: int64; a target of -100 gives losses and a gradient of zero.
        expected_NE: contiguous, int16, from `stentor.model.expected`; no token twice but with probability zero.
        share: of the loss that is taken against the teacher, 0 to 1.
    """
    num_rows, vocab_size = logits_NV.shape
    losses_2N = torch.empty(2, num_rows, dtype=torch.float32, device=logits_NV.device)
    block, count = max(1024, power_of_2(vocab_size)), expected_NE.shape[1] // 2
    _distillation_of_few[(num_rows,)](
        *(logits_NV, targets_N, expected_NE, expected_NE.view(torch.float16), losses_2N),
        *(num_rows, vocab_size, count, share),
        BLOCK=block,
        FEW=power_of_2(count),
        num_warps=WARPS_OF_ROW.get(block, 4),
    )
    return losses_2N[0], losses_2N[1]


@gpu_kernel
def _distillation(logits, targets, teacher, losses, num_rows, vocab_size, share, BLOCK: tl.constexpr):
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
    theirs = tl.load(teacher + row * vocab_size + columns, mask=inside, other=-float("inf")).to(tl.float32)
    wanted = tl.exp(theirs - tl.max(theirs, axis=0))
    wanted = wanted / tl.sum(wanted, axis=0)
    log_total = tl.log(total) + largest
    hard = log_total - chosen
    soft = log_total - tl.sum(wanted * tl.where(inside, values, 0.0), axis=0)
    tl.store(losses + row, tl.where(is_scored, hard + share * (soft - hard), 0.0))
    tl.store(losses + num_rows + row, tl.where(is_scored, hard, 0.0))
    gradient = powers / total - share * wanted - tl.where(columns == target, 1.0 - share, 0.0)
    tl.debug_barrier()  # every thread has read the target's logit before any writes over it
    tl.store(start + columns, tl.where(is_scored, gradient, 0.0).to(logits.dtype.element_ty), mask=inside)


@gpu_kernel
def _distillation_of_few(
    logits, targets, ids, weights, losses, num_rows, vocab_size, count, share, BLOCK: tl.constexpr, FEW: tl.constexpr
):
    """Take one row: p is written over it, and what the teacher and the text want is taken off at their few tokens."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    start = logits + row * vocab_size
    is_scored = target != _IGNORED
    label = tl.where(is_scored, target, 0)
    chosen = tl.load(start + label).to(tl.float32)
    few = tl.arange(0, FEW)
    place = 2 * count * row + few
    token = tl.load(ids + place, mask=few < count, other=0).to(tl.int32) & 0xFFFF
    wanted = tl.load(weights + place + count, mask=few < count, other=0.0).to(tl.float32)
    wanted = wanted / tl.maximum(tl.sum(wanted, axis=0), 1e-9)  # a row that nothing is asked of is zero
    stands = (wanted > 0) & (token < vocab_size)  # a damaged row must not reach into the next
    expected = tl.load(start + token, mask=stands, other=0.0).to(tl.float32)
    columns = tl.arange(0, BLOCK)
    inside = columns < vocab_size
    values = tl.load(start + columns, mask=inside, other=-float("inf")).to(tl.float32)
    largest = tl.max(values, axis=0)
    powers = tl.exp(values - largest)
    log_total = tl.log(tl.sum(powers, axis=0)) + largest
    hard = log_total - chosen
    soft = log_total - tl.sum(wanted * expected, axis=0)
    tl.store(losses + row, tl.where(is_scored, hard + share * (soft - hard), 0.0))
    tl.store(losses + num_rows + row, tl.where(is_scored, hard, 0.0))
    is_label = token == label
    of_few = tl.exp(expected - log_total) - share * wanted - tl.where(is_label, 1.0 - share, 0.0)
    of_label = tl.exp(chosen - log_total) - share * tl.sum(tl.where(is_label, wanted, 0.0), axis=0) - (1.0 - share)
    kind = logits.dtype.element_ty
    tl.debug_barrier()  # every thread has read the row before any writes over it
    tl.store(start + columns, tl.where(is_scored, tl.exp(values - log_total), 0.0).to(kind), mask=inside)
    tl.debug_barrier()  # the few are written over what stands there now
    tl.store(start + token, tl.where(is_scored, of_few, 0.0).to(kind), mask=stands)
    tl.store(start + label, tl.where(is_scored, of_label, 0.0).to(kind), mask=is_scored)
