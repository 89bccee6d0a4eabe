"""Triton's decorator and arithmetic with types that say what they are to their callers: launched, and plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton


def gpu_kernel(function: Callable[..., None]) -> Any:
    """Compile a function for the GPU on its first launch, `kernel[grid](...)`."""
    return triton.jit(function)


def blocks_of(count: int, size: int) -> int:
    """Return how many blocks of a size cover a count."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """Return the smallest power of two that is not below a count."""
    return 1 << (count - 1).bit_length()
