"""Kernels: `borrowed` arrays are the same arrays, and cost no reference counting."""

import sys

import numpy as np
from numba import njit

from stentor.compiled import borrowed, inlined, kernel


@inlined
def _picked(array, index):
    return array[index] if index < array.size else 0


def _sum_of(array):
    view, total = borrowed(array), 0
    for index in range(array.size + 3):
        if index % 3:
            total += _picked(view, index)
        view[0] = total
    return total


def test_a_borrowed_array_is_the_same_memory():
    array = np.arange(20, dtype=np.int64)
    expected = sum(value for value in range(20) if value % 3)
    assert kernel(_sum_of)(array) == expected
    assert array[0] == expected


def test_no_reference_is_counted_within_a_loop():
    compiled = njit(nogil=True)(_sum_of)
    compiled(np.arange(5, dtype=np.int64))
    (ir,) = compiled.inspect_llvm().values()
    (start,) = [position for position in (ir.find("define"),) if position >= 0]
    body = ir[start : ir.index("\n}", start)]
    loop = body[body.index("preheader") :] if "preheader" in body else body
    assert "call void @NRT_incref" not in loop


def test_references_are_balanced():
    array = np.arange(20, dtype=np.int64)
    before = sys.getrefcount(array)
    compiled = kernel(_sum_of)
    for _ in range(10):
        compiled(array)
    assert sys.getrefcount(array) == before
