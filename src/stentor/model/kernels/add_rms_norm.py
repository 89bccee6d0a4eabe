"""A sum, its RMSNorm, and their gradient in one pass."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import blocks_of, gpu_kernel, power_of_2

NORM_PROGRAMS = 1056
"""Where a gain is learned: eight of one warp for each of an H200's 132 multiprocessors, the best of 80 ways timed."""
_NORM_ROWS, _NORM_WARPS = 8, 1


def add_rms_norm_forward(
    x_ND: Tensor, delta_ND: Tensor | None, gain_D: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x + delta, its RMSNorm in `dtype`, and 1 / RMS of each row, float32 [N]."""
    num_rows, width = x_ND.shape
    sum_ND = x_ND if delta_ND is None else torch.empty_like(x_ND)
    normed_ND = torch.empty(x_ND.shape, dtype=dtype, device=x_ND.device)
    inverse_N = torch.empty(num_rows, dtype=torch.float32, device=x_ND.device)
    _add_rms_norm[(blocks_of(num_rows, _NORM_ROWS),)](
        *(x_ND, x_ND if delta_ND is None else delta_ND, gain_D, sum_ND, normed_ND, inverse_N, num_rows, width, eps),
        ADDS=delta_ND is not None,
        ROWS=_NORM_ROWS,
        BLOCK=power_of_2(width),
    )
    return sum_ND, normed_ND, inverse_N


@gpu_kernel
def _add_rms_norm(
    x, delta, gain, total, normed, inverse, num_rows, width, eps, ADDS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    inside = (rows < num_rows)[:, None] & (columns < width)[None, :]
    place = rows[:, None] * width + columns[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        values += tl.load(delta + place, mask=inside, other=0.0).to(tl.float32)
        rounded = values.to(total.dtype.element_ty)
        tl.store(total + place, rounded, mask=inside)
        values = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / width + eps)
    tl.store(inverse + rows, scale, mask=rows < num_rows)
    gains = tl.load(gain + columns, mask=columns < width, other=0.0).to(tl.float32)
    result = values * scale[:, None] * gains[None, :]
    tl.store(normed + place, result.to(normed.dtype.element_ty), mask=inside)


def add_rms_norm_backward(
    sum_ND: Tensor,
    gain_D: Tensor,
    inverse_N: Tensor,
    sum_grad_ND: Tensor | None,
    normed_grad_ND: Tensor,
    *,
    learns_gain: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of the sum (which is that of both its terms) and, if wanted, of the gain.

    That is a sum for each program, float32 [P, D], to be added up.
    """
    num_rows, width = sum_ND.shape
    blocks = blocks_of(num_rows, _NORM_ROWS)
    programs = NORM_PROGRAMS if learns_gain else blocks
    grad_ND = torch.empty_like(sum_ND)
    gain_grads_PD = sum_ND.new_empty(programs if learns_gain else 1, width, dtype=torch.float32)
    upper = normed_grad_ND if sum_grad_ND is None else sum_grad_ND
    _add_rms_norm_backward[(programs,)](
        *(sum_ND, gain_D, inverse_N, upper, normed_grad_ND, grad_ND, gain_grads_PD, num_rows, width),
        ADDS=sum_grad_ND is not None,
        LEARNS=learns_gain,
        TURNS=blocks_of(blocks, programs),
        ROWS=_NORM_ROWS,
        BLOCK=power_of_2(width),
        num_warps=_NORM_WARPS,
    )
    return grad_ND, gain_grads_PD if learns_gain else None


@gpu_kernel
def _add_rms_norm_backward(
    total, gain, inverse, total_grad, normed_grad, grad, gain_grads, num_rows, width, ADDS: tl.constexpr,
    LEARNS: tl.constexpr, TURNS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take every P-th block of rows, so that each program sums the gain's gradient over many."""
    columns = tl.arange(0, BLOCK)
    gains = tl.load(gain + columns, mask=columns < width, other=0.0).to(tl.float32)
    summed = tl.zeros((ROWS, BLOCK), dtype=tl.float32)  # over its rows only at the end: that needs all threads
    for turn in range(TURNS):
        rows = (turn * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = (rows < num_rows)[:, None] & (columns < width)[None, :]
        place = rows[:, None] * width + columns[None, :]
        scale = tl.load(inverse + rows, mask=rows < num_rows, other=0.0)
        unit = tl.load(total + place, mask=inside, other=0.0).to(tl.float32) * scale[:, None]
        above = tl.load(normed_grad + place, mask=inside, other=0.0).to(tl.float32)
        if LEARNS:
            summed += above * unit
        above = above * gains[None, :]
        along = tl.sum(above * unit, axis=1) / width
        result = (above - unit * along[:, None]) * scale[:, None]
        if ADDS:
            result += tl.load(total_grad + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad + place, result.to(grad.dtype.element_ty), mask=inside)
    if LEARNS:
        tl.store(gain_grads + tl.program_id(0) * width + columns, tl.sum(summed, axis=0), mask=columns < width)
