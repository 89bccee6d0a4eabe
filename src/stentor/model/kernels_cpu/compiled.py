"""What every compiled loop is made of: bfloat16 read and written as bits, and an exponential that fits vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray
from torch import Tensor

from stentor.compiled import inlined, kernel

P = ParamSpec("P")
R = TypeVar("R")
_MATHS = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be taken in lanes and a*b+c rounded once; numbers that are not finite stay what they are."""


def cpu_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a loop over numbers on its first call, or load it from the disk."""
    return kernel(function, fastmath=_MATHS, error_model="numpy")


def bits(x: Tensor) -> NDArray[Any]:
    """Return a tensor's own memory as an array: float32 as it is, bfloat16 as unsigned 16 bits."""
    x = x.detach()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def _float32_of_bits(typing_context: Any, value: Any) -> Any:
    """Read 32 bits as a float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), code


def _bits_of_float32(typing_context: Any, value: Any) -> Any:
    """Read a float32 as 32 bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), code


_float32_of: Any = intrinsic(_float32_of_bits)
_bits_of: Any = intrinsic(_bits_of_float32)


def read(stored: Any) -> Any:
    """Return an element as float32; only within a kernel."""
    raise NotImplementedError


def rounded(value: Any, like: Any) -> Any:
    """Return a float32 as an element of the array `like`, to the nearest, ties to even; only within a kernel."""
    raise NotImplementedError


@overload(read, inline="always")
def _read(stored: Any) -> Any:
    def of_bfloat16(stored: Any) -> Any:
        return _float32_of(np.uint32(np.uint32(stored) << np.uint32(16)))

    def of_float32(stored: Any) -> Any:
        return stored

    return of_bfloat16 if stored == types.uint16 else of_float32


@overload(rounded, inline="always")
def _rounded(value: Any, like: Any) -> Any:
    def to_bfloat16(value: Any, like: Any) -> Any:
        whole = _bits_of(value)
        odd = np.uint32(np.uint32(whole >> np.uint32(16)) & np.uint32(1))
        return np.uint16(np.uint32(whole + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    def to_float32(value: Any, like: Any) -> Any:
        return value

    return to_bfloat16 if like.dtype == types.uint16 else to_float32


SMALLEST_INTEGER = np.int32(-(2**31))


@inlined
def ordered(value: Any) -> Any:
    """Return an integer that compares as the float32 does: the largest of integers is found in lanes."""
    whole = np.int32(_bits_of(value))
    return np.int32(whole ^ np.int32(np.int32(whole >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inlined
def from_ordered(integer: Any) -> Any:
    """Return the float32 that `ordered` was given."""
    whole = np.int32(integer ^ np.int32(np.int32(integer >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return _float32_of(np.uint32(whole))


_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.442695041), np.float32(0.693359375), np.float32(-2.12194440e-4)
_SMALLEST = np.float32(-87.0)
_C2, _C3, _C4, _C5, _C6, _C7 = (
    np.float32(c) for c in (0.5, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)
)


@inlined
def exp(x: Any) -> Any:
    """Return e^x of a float32 that is at most 0, within 4e-7 of it; only within a kernel.

    Split off a power of two, then a polynomial. Reference: Moshier, Cephes Mathematical Library 2.2, `expf`.
    """
    power = _SMALLEST if x < _SMALLEST else x
    whole = np.int32(power * _LOG2_E - np.float32(0.5))  # towards zero: the nearest, for x is not above it
    r = power - np.float32(whole) * _LN2_HIGH - np.float32(whole) * _LN2_LOW
    tail = ((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2
    value = np.float32(1.0) + r + r * r * tail
    scale = _float32_of(np.uint32(np.uint32(np.int32(whole + np.int32(127))) << np.uint32(23)))
    return np.float32(0.0) if x < _SMALLEST else value * scale  # what is no number stays none
