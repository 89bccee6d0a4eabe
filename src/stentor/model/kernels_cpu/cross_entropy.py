"""The loss of each row of logits, and its gradient in their place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stentor.model.kernels_cpu.compiled import (
    SMALLEST_INTEGER,
    bits,
    cpu_kernel,
    exp,
    from_ordered,
    ordered,
    read,
    rounded,
)
from stentor.model.kernels_cpu.threads import over_row_blocks

_ROWS = 16


def cross_entropy_in_place(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return -ln p of each target, float32 [N], and replace the logits by their gradient.

    Args:
        logits_NV: contiguous.
        targets_N: int64; a negative target gives a loss and a gradient of zero.
    """
    num_rows = len(logits_NV)
    nats_N = torch.empty(num_rows, dtype=torch.float32)
    arrays = bits(logits_NV), targets_N.numpy(), bits(nats_N)
    over_row_blocks(lambda _, start, end: _cross_entropy(*arrays, start, end), num_rows, _ROWS)
    return nats_N


@cpu_kernel
def _cross_entropy(logits: Any, targets: Any, nats: Any, start: int, end: int) -> None:
    width = logits.shape[1]
    powers = np.empty(width, dtype=np.float32)
    for row in range(start, end):
        target = targets[row]
        if target < 0:
            nats[row] = np.float32(0.0)
            for column in range(width):
                logits[row, column] = rounded(np.float32(0.0), logits)
            continue
        chosen, largest_as_integer = read(logits[row, target]), SMALLEST_INTEGER
        for column in range(width):
            largest_as_integer = max(largest_as_integer, ordered(read(logits[row, column])))
        largest = from_ordered(largest_as_integer)
        total = np.float32(0.0)
        for column in range(width):
            power = exp(read(logits[row, column]) - largest)
            powers[column] = power
            total += power
        nats[row] = np.float32(math.log(total)) + largest - chosen
        weight = np.float32(1.0) / total
        for column in range(width):
            logits[row, column] = rounded(powers[column] * weight, logits)
        logits[row, target] = rounded(powers[target] * weight - np.float32(1.0), logits)
