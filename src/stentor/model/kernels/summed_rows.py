"""The sum over the rows of a matrix with few columns."""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from stentor.model.kernels.compiled import blocks_of, gpu_kernel

_SUM_COLUMNS, _SUM_ROWS, _SUM_WARPS = 4, 256, 8


def summed_rows(values_PD: Tensor, *, split: int | None = None) -> Tensor:
    """Return the sum over rows, float32 [D], always made in the same order: for few columns, where torch is slow.

    Args:
        values_PD: float32, contiguous.
        split: sum the rows before this one and those from it on apart: [2, D].
    """
    num_rows, width = values_PD.shape
    sizes = (num_rows,) if split is None else (split, num_rows - split)
    out_SD = torch.empty(len(sizes), width, dtype=torch.float32, device=values_PD.device)
    _summed_rows[(blocks_of(width, _SUM_COLUMNS), len(sizes))](
        *(values_PD, out_SD, sizes[0], num_rows, width),
        TURNS=blocks_of(max(sizes), _SUM_ROWS),
        ROWS=_SUM_ROWS,
        COLUMNS=_SUM_COLUMNS,
        num_warps=_SUM_WARPS,
    )
    return out_SD[0] if split is None else out_SD


@gpu_kernel
def _summed_rows(
    values, out, split, num_rows, width, TURNS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    part, columns = tl.program_id(1), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    first, end = part * split, tl.where(part == 0, split, num_rows)
    summed = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for turn in range(TURNS):
        rows = first + turn * ROWS + tl.arange(0, ROWS)
        inside = (rows < end)[:, None] & (columns < width)[None, :]
        summed += tl.load(values + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)
    tl.store(out + part * width + columns, tl.sum(summed, axis=0), mask=columns < width)
