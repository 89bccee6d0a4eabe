"""Where to compute and in which type."""

from __future__ import annotations

from pathlib import Path

import torch


def pick_device() -> torch.device:
    """Return the fastest device of this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the compute type of matrix products; None is float32. Weights and updates are float32 always.

    Args:
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where the device multiplies it natively.
        device: where the model lives.
    """
    if precision == "float32" or (precision == "auto" and not _multiplies_bfloat16(device)):
        return None
    return torch.bfloat16


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""
