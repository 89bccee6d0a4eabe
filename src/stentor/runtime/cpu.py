"""The network on a CPU: packed weights, a cache, and the threads that run a pass together."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stentor.model.config import ModelConfig
from stentor.model.quantized import Array
from stentor.runtime.kernels.attention import CHUNK
from stentor.runtime.kernels.products import HEAD
from stentor.runtime.kernels.records import Cache, Network, Room, Tokens
from stentor.runtime.kernels.step import run_pass, serve
from stentor.runtime.kernels.threads import LINE
from stentor.runtime.packing import pack
from stentor.runtime.workers import Workers

MAX_TOKENS = 64
"""Tokens of one pass; a longer prompt is several."""
DTYPES = ("float32", "int8", "int4")


class CpuNetwork:
    """A network that computes on a CPU, without torch.

    Args:
        config: its sizes.
        tensors: under Hugging Face's names.
        dtype: of the weights, one of `DTYPES`; in `int4` the head is in INT8.
        cache_dtype: of keys and values: `float32` or `int8`.
        num_sequences: that the cache holds.
        num_threads: at most one for each part of the network; the result does not depend on it.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Array],
        *,
        dtype: str = "float32",
        cache_dtype: str = "float32",
        num_sequences: int = 1,
        num_threads: int = 1,
    ) -> None:
        self.config = config
        self._packed = pack(config, tensors, dtype=dtype, has_byte_cache=cache_dtype == "int8")
        network = self._packed.network
        self._cache = _make_cache(network, config.max_position_embeddings, num_sequences)
        self._given = np.zeros((3, MAX_TOKENS), dtype=np.int64)
        self._shared = _SharedRoom(network)
        self.num_threads = min(num_threads, network.num_parts)
        self._rooms = [self._shared.of_thread(config.max_position_embeddings) for _ in range(self.num_threads)]
        self._meeting = 0
        self._workers = Workers(
            [partial(serve, network, self._cache[0], room, self._tokens(0, 0)) for room, _ in self._rooms[1:]]
        )
        weakref.finalize(self, self._workers.close)

    def logits(
        self,
        token_ids: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[int] | None = None,
        *,
        first_scored: int = 0,
    ) -> NDArray[np.float32]:
        """Return the logits [K, V] after each token, valid until the next call; keys and values are kept.

        Args:
            token_ids: K of them, at most `MAX_TOKENS`.
            positions: of each in its sequence; all before must be in the cache, or among these.
            sequences: that each belongs to; the first where none are named.
            first_scored: logits are made from this token on.
        """
        count = len(token_ids)
        assert 0 < count <= MAX_TOKENS
        self._given[0, :count], self._given[1, :count], self._given[2, :count] = token_ids, sequences or 0, positions
        network, room = self._packed.network, self._rooms[0][0]
        self._workers.post(count, first_scored, self._meeting)
        tokens = self._tokens(count, first_scored)
        self._meeting = run_pass(network, self._cache[0], room, tokens, 0, self.num_threads, self._meeting)
        logits_KV = self._shared.logits[: (count - first_scored) * network.vocab_size]
        return logits_KV.reshape(-1, network.vocab_size)[:, : self.config.vocab_size]

    def _tokens(self, count: int, first_scored: int) -> Tokens:
        start, row = self._given.ctypes.data, 8 * MAX_TOKENS
        return Tokens(start, start + row, start + 2 * row, count, first_scored)


def _make_cache(network: Network, context_length: int, num_sequences: int) -> tuple[Cache, tuple[NDArray, ...]]:
    capacity = -(-context_length // CHUNK) * CHUNK
    heads = num_sequences * network.num_layers * network.num_parts * network.num_key_heads
    head_bytes = capacity * network.head_dim * (1 if network.has_byte_cache else 4)
    vectors = [np.zeros(heads * head_bytes, dtype=np.uint8) for _ in range(2)]
    scales = [np.zeros(heads * capacity if network.has_byte_cache else 1, dtype=np.float32) for _ in range(2)]
    arrays = (*vectors, *scales)
    return Cache(capacity, head_bytes, *(array.ctypes.data for array in arrays)), arrays


class _SharedRoom:
    """What the threads of a pass write to together; and of each of them alone."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._partial = np.zeros((2 * network.num_parts, MAX_TOKENS, network.hidden_size), dtype=np.float32)
        self._arrivals = np.zeros(LINE * network.num_parts, dtype=np.int64)
        self.logits = np.zeros(MAX_TOKENS * network.vocab_size, dtype=np.float32)

    def of_thread(self, context_length: int) -> tuple[Room, tuple[NDArray, ...]]:
        """Return what one more thread writes to, and the arrays behind it."""
        network, capacity = self._network, -(-context_length // CHUNK) * CHUNK
        heads = (network.num_heads + 2 * network.num_key_heads) * network.head_dim
        made = max(-(-heads // 64) * 64, 2 * network.inner_size)
        inner = max(network.num_heads * network.head_dim, network.inner_size)
        strides = {
            "given_stride": HEAD + 4 * network.hidden_size, "made_stride": 4 * made, "inner_stride": HEAD + 4 * inner,
        }  # fmt: skip
        sizes = {
            "stream": 4 * MAX_TOKENS * network.hidden_size,
            "given": MAX_TOKENS * strides["given_stride"],
            "made": MAX_TOKENS * strides["made_stride"],
            "inner": MAX_TOKENS * strides["inner_stride"],
            "scratch": max(2 * capacity, HEAD + network.head_dim),
            "scores": 4 * capacity,
        }
        arrays = {name: np.zeros(size, dtype=np.uint8) for name, size in sizes.items()}
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        shared = {
            "partial": self._partial.ctypes.data,
            "logits": self.logits.ctypes.data,
            "arrivals": self._arrivals.ctypes.data,
        }
        return Room(**addresses, **shared, **strides), tuple(arrays.values())
