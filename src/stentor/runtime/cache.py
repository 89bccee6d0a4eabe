"""Keys and values of several sequences on a CPU; `kernels.attention` says how those of a head lie."""

from __future__ import annotations

import numpy as np

from stentor.runtime.kernels.attention import CHUNK
from stentor.runtime.kernels.records import Cache, Network


def capacity_of(context_length: int) -> int:
    """Return the positions that room is made for: whole chunks."""
    return -(-context_length // CHUNK) * CHUNK


class KeysAndValues:
    """Room for the keys and values of some sequences; the system gives memory to what is written to alone.

    Args:
        network: what they belong to.
        context_length: positions of each sequence.
        num_sequences: how many.

    Attributes:
        record: the room as kernels see it.
    """

    def __init__(self, network: Network, context_length: int, num_sequences: int) -> None:
        self._network, capacity = network, capacity_of(context_length)
        heads = network.num_layers * network.num_parts * network.num_key_heads
        head_bytes = capacity * network.head_dim * (1 if network.has_byte_cache else 4)
        self._vectors = [np.zeros((num_sequences, heads, head_bytes), dtype=np.uint8) for _ in range(2)]
        scales_shape = (num_sequences, heads, capacity) if network.has_byte_cache else (1, 1, 1)
        self._scales = [np.zeros(scales_shape, dtype=np.float32) for _ in range(2)]
        addresses = (array.ctypes.data for array in (*self._vectors, *self._scales))
        self.record = Cache(capacity, head_bytes, *addresses)

    def share(self, length: int) -> None:
        """Copy what the first sequence has of its first positions to all others."""
        positions = capacity_of(length)
        keys, values = self._vectors
        row_bytes = self.record.head_bytes // self.record.capacity
        if self._network.has_byte_cache:  # values lie in blocks of 16 dims, each with all its positions
            values, value_bytes = values.reshape(*values.shape[:2], -1, CHUNK * self.record.capacity), CHUNK * positions
        else:
            value_bytes = row_bytes * positions
        copied = [keys[..., : row_bytes * positions], values[..., :value_bytes]]
        for array in [*copied, *(scales[..., :positions] for scales in self._scales)]:
            array[1:] = array[0]
