"""How the engine's kernels are compiled: without the interpreter's lock, and kept on the disk where one may write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar

from numba import njit

from stentor.compiled import Int, inlined, kernel

P = ParamSpec("P")
R = TypeVar("R")
Float: TypeAlias = Any
"""A float32 within a kernel."""
Vector: TypeAlias = Any
"""Sixteen numbers within a kernel."""
__all__ = ["Float", "Int", "Vector", "called", "inlined", "kernel"]


def called(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that kernels call, once for all of them: for what is long."""
    return njit(nogil=True, error_model="numpy")(function)
