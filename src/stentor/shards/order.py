"""The order in which sequences are seen: a pure function of (seed, position), the same on every machine for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


class SequenceOrder:
    """An endless concatenation of epochs, each a permutation of its own of all sequences.

    Nothing depends on NumPy's random generators, whose streams may change with its version. The permutation of an
    epoch sorts the sequences by a hash of (seed, epoch, index).

    Args:
        num_sequences: sequences of an epoch, at least one.
        seed: any whole number; another seed gives another order.

    Reference: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (the mixing function).
    """

    def __init__(self, num_sequences: int, seed: int) -> None:
        if num_sequences < 1:
            raise ValueError("an order needs at least one sequence")
        self._num_sequences = num_sequences
        self._seed = seed
        self._epoch = -1
        self._permutation_N = np.empty(0, dtype=np.int64)

    def indices(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the numbers of the sequences at positions start .. start + count - 1, int64 [count]."""
        parts = [np.empty(0, dtype=np.int64)]
        while count > 0:
            epoch, offset = divmod(start, self._num_sequences)
            part = self._permutation(epoch)[offset : offset + count]
            parts.append(part)
            start += len(part)
            count -= len(part)
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            key = _splitmix64((_splitmix64(self._seed & _MASK) + epoch) & _MASK)
            hashes_N = _splitmix64_of_range(key, self._num_sequences)
            self._permutation_N = np.argsort(hashes_N, kind="stable").astype(np.int64)
            self._epoch = epoch
        return self._permutation_N


def _splitmix64(value: int) -> int:
    """Mix 64 bits; the plain twin of `_splitmix64_of_range`."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _splitmix64_of_range(key: int, count: int) -> NDArray[np.uint64]:
    """Return splitmix64(key + i) for i below `count`; NumPy's uint64 arrays wrap around silently, as they should."""
    values = np.arange(count, dtype=np.uint64) + np.array([key], dtype=np.uint64)
    values += np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
