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


def device_name(device: torch.device) -> str:
    """Return what a GPU calls itself, such as `NVIDIA H100 80GB HBM3`; for other devices their kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of matrix products; weights and updates are float32 always.

    Args:
        precision: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 where the device multiplies it natively,
            float16 on other GPUs, float32 elsewhere.
        device: where the model lives.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if _multiplies_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


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
