"""The scale with which four bits come nearest to the weights of a block.

The largest weight of a block sets the scale in the plain way, and all others pay for it. Here some scales around that
one are tried; each decides the whole numbers, and these the scale that leaves the least squared error, which is the
sum of w^2 less (sum of w q)^2 / (sum of q^2).
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Float, Int, inlined, kernel
from stentor.runtime.kernels.vector import (
    floats,
    largest,
    load_floats,
    maximum,
    multiply_add,
    rounded,
    store_float,
    to_floats,
    total,
)

TRIED = tuple(np.linspace(-7, -10, 10, dtype=np.float32))
"""What the largest weight of a block becomes before it is rounded, -8 in the plain way: only the negative side has an
eighth step, and further out the largest is cut for the sake of the others. More of them gain less than 1% of the error.
"""
_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
def choose_scales(blocks: Int, count: Int, scales: Int) -> None:
    """Write the scale of each block; zero where all weights are.

    Args:
        blocks: address of float32 [count, 32].
        count: of the blocks.
        scales: address of float32 [count] to write to.
    """
    for index in range(count):
        one, two = load_floats(blocks + 128 * index), load_floats(blocks + 128 * index + 64)
        nothing = floats(_ZERO)
        highest, lowest = largest(maximum(one, two)), largest(maximum(nothing - one, nothing - two))
        top = highest if highest > lowest else -lowest
        inverse = _ONE / top if top != 0 else _ZERO
        chosen, best = _ZERO, _ZERO
        for tried in TRIED:
            by = floats(tried * inverse)
            a, b = _nearest(one * by), _nearest(two * by)
            products, squares = total(multiply_add(a, one, b * two)), total(multiply_add(a, a, b * b))
            if products * products > best * squares:
                best, chosen = products * products / squares, products / squares
        store_float(scales + 4 * index, chosen)


@inlined
def _nearest(values: Float) -> Float:
    """Return the nearest whole numbers from -8 to 7."""
    whole = maximum(to_floats(rounded(values)), floats(np.float32(-8)))
    minus = maximum(floats(_ZERO) - whole, floats(np.float32(-7)))
    return floats(_ZERO) - minus
