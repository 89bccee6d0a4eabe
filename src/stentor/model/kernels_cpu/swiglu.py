"""SwiGLU: silu(gate) * up of gate and up beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stentor.model.kernels_cpu.compiled import bits, cpu_kernel, exp, read, rounded
from stentor.model.kernels_cpu.threads import over_row_blocks

_ROWS = 64


def swiglu_forward(gate_up_NF: Tensor) -> Tensor:
    """Return silu(gate) * up [N, F / 2].

    Args:
        gate_up_NF: contiguous.
    """
    num_rows, width = gate_up_NF.shape
    out_NF = gate_up_NF.new_empty(num_rows, width // 2)
    arrays = bits(gate_up_NF), bits(out_NF)
    over_row_blocks(lambda _, start, end: _swiglu_forward(*arrays, start, end), num_rows, _ROWS)
    return out_NF


@cpu_kernel
def _swiglu_forward(gate_up: Any, out: Any, start: int, end: int) -> None:
    one, width = np.float32(1.0), out.shape[1]
    for row in range(start, end):
        gates, ups = gate_up[row, :width], gate_up[row, width:]
        for column in range(width):
            gate, up = read(gates[column]), read(ups[column])
            small = exp(-abs(gate))
            sigmoid = (small if gate < np.float32(0.0) else one) / (one + small)
            out[row, column] = rounded(gate * sigmoid * up, out)


def swiglu_backward(gate_up_NF: Tensor, grad_NF: Tensor) -> Tensor:
    """Return the gradient of gate and up beside each other.

    Args:
        gate_up_NF: as in the forward pass.
        grad_NF: of the result [N, F / 2], contiguous.
    """
    result_NF = torch.empty_like(gate_up_NF)
    arrays = bits(gate_up_NF), bits(grad_NF), bits(result_NF)
    over_row_blocks(lambda _, start, end: _swiglu_backward(*arrays, start, end), len(gate_up_NF), _ROWS)
    return result_NF


@cpu_kernel
def _swiglu_backward(gate_up: Any, grads: Any, result: Any, start: int, end: int) -> None:
    one, width = np.float32(1.0), grads.shape[1]
    for row in range(start, end):
        gates, ups = gate_up[row, :width], gate_up[row, width:]
        gate_grads, up_grads = result[row, :width], result[row, width:]
        for column in range(width):
            gate, up = read(gates[column]), read(ups[column])
            grad = read(grads[row, column])
            small = exp(-abs(gate))
            sigmoid = (small if gate < np.float32(0.0) else one) / (one + small)
            slope = sigmoid * (one + gate * (one - sigmoid))
            gate_grads[column] = rounded(grad * up * slope, result)
            up_grads[column] = rounded(grad * gate * sigmoid, result)
