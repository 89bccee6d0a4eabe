"""Which way operations go: plain torch, kernels for NVIDIA GPUs, or compiled loops for the CPU."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import Any

import torch

_OLDEST_CAPABILITY = (7, 5)
"""A T4; Triton compiles for nothing older."""


class Way(Enum):
    """How an operation is computed; the value of a fused one names the package of its kernels."""

    PLAIN = ""
    GPU = "stentor.model.kernels"
    CPU = "stentor.model.kernels_cpu"

    def kernels(self, operation: str) -> Any:
        """Return the module with the kernels of an operation; what compiles them is imported no sooner."""
        return import_module(f"{self.value}.{operation}")


def way_of(compute_dtype: torch.dtype, device: torch.device) -> Way:
    """Return the fastest way: kernels serve 16 bits on a GPU that Triton knows, and training on a CPU."""
    if device.type == "cpu":
        # Answers are given one token at a time: there is little to gain, and the loops would first be compiled.
        serves = torch.is_grad_enabled() and compute_dtype in (torch.float32, torch.bfloat16)
        return Way.CPU if serves else Way.PLAIN
    if compute_dtype not in (torch.bfloat16, torch.float16) or device.type != "cuda" or torch.version.hip:
        return Way.PLAIN
    return Way.GPU if torch.cuda.get_device_capability(device) >= _OLDEST_CAPABILITY else Way.PLAIN
