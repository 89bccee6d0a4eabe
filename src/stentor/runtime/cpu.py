"""The network on a CPU: packed weights, a cache, and the threads that run a pass together."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stentor.model.config import ModelConfig
from stentor.model.quantized import Array
from stentor.runtime.cache import KeysAndValues, capacity_of
from stentor.runtime.kernels.attention_tiles import TOKENS
from stentor.runtime.kernels.products import HEAD
from stentor.runtime.kernels.records import Network, Room, Tokens
from stentor.runtime.kernels.step import run_pass, serve
from stentor.runtime.kernels.threads import LINE
from stentor.runtime.network import require_readable
from stentor.runtime.packing import Packed, pack
from stentor.runtime.scoring import score_windows
from stentor.runtime.workers import Breaks, Workers

MAX_TOKENS = 64
"""Tokens of one pass, a multiple of four; a longer prompt is several."""


class CpuNetwork:
    """A network that computes on a CPU, without torch; a `CachedNetwork`.

    Args:
        config: its sizes.
        tensors: under Hugging Face's names.
        dtype: of the weights, one of `dtypes.DTYPES`; in `int4` the head is in INT8.
        cache_dtype: of keys and values, one of `dtypes.CACHE_DTYPES`.
        num_sequences: that the cache holds.
        num_threads: of a pass, at most one for each part of the network; the result does not depend on it.
        max_threads: that may compute at a time, each a pass of its own; as many as take one where none are named.
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
        max_threads: int | None = None,
    ) -> None:
        packed = pack(config, tensors, dtype=dtype, has_byte_cache=cache_dtype == "int8")
        self.max_threads = max_threads or num_threads
        self._begin(config, packed, num_sequences, num_threads)

    def _begin(self, config: ModelConfig, packed: Packed, num_sequences: int, num_threads: int) -> None:
        self.config, self._packed = config, packed
        network = packed.network
        self._cache = KeysAndValues(network, config.max_position_embeddings, num_sequences)
        self._given = np.zeros((3, MAX_TOKENS), dtype=np.int64)
        self._shared = _SharedRoom(network)
        self.num_threads = min(num_threads, network.num_parts)
        self._rooms = [self._shared.of_thread(config.max_position_embeddings) for _ in range(self.num_threads)]
        self._meeting = self._long_waits = 0
        self._breaks = Breaks()
        self._workers = Workers(
            [partial(serve, network, self._cache.record, room, self._tokens(0, 0)) for room, _ in self._rooms[1:]]
        )
        weakref.finalize(self, self._workers.close)

    @property
    def num_parts(self) -> int:
        """Parts that a pass consists of: more threads than that would have nothing to do."""
        return self._packed.network.num_parts

    def fresh(
        self, num_sequences: int = 1, *, num_threads: int | None = None, context_length: int | None = None
    ) -> CpuNetwork:
        """Return a network of these very weights that has read nothing; see `CachedNetwork`.

        Args:
            num_sequences: that it can remember.
            num_threads: that a pass takes; as many as here where none are named.
            context_length: of a network that reads short texts, and has room for so much alone.
        """
        length = min(context_length or self.config.max_position_embeddings, self.config.max_position_embeddings)
        twin = CpuNetwork.__new__(CpuNetwork)
        twin.max_threads = self.max_threads
        config = replace(self.config, max_position_embeddings=length)
        twin._begin(config, self._packed, num_sequences, num_threads or self.num_threads)
        return twin

    def share(self, length: int) -> None:
        """Let all sequences begin as the first one does; see `CachedNetwork`."""
        self._cache.share(length)

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens of a sequence and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        count = len(token_ids)
        require_readable(self.config, token_ids, start, start + count - 1)
        scored, logits_KV = [], np.empty((0, 0), dtype=np.float32)
        for first in range(0, count, MAX_TOKENS):
            block = token_ids[first : first + MAX_TOKENS]
            positions = range(start + first, start + first + len(block))
            first_scored = 0 if all_scored else len(block) - 1
            logits_KV = self.logits(block, positions, [sequence] * len(block), first_scored=first_scored)
            if all_scored and count > MAX_TOKENS:
                scored.append(logits_KV.copy())
        return np.concatenate(scored) if scored else logits_KV

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        require_readable(self.config, token_ids, min(positions), max(positions))
        return self.logits(token_ids, positions, sequences)

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets [B, T]; see `measure.Scorer`."""
        num_threads = min(self.max_threads, len(inputs_BT))
        networks = [self.fresh()] if num_threads == 1 else [self.fresh(num_threads=1) for _ in range(num_threads)]
        return score_windows(networks, inputs_BT, targets_BT)

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
            token_ids: K of them, at most `MAX_TOKENS`; nothing is checked.
            positions: of each in its sequence; all before must be in the cache, or among these.
            sequences: that each belongs to; the first where none are named.
            first_scored: logits are made from this token on.
        """
        count = len(token_ids)
        assert 0 < count <= MAX_TOKENS
        self._given[0, :count], self._given[1, :count], self._given[2, :count] = token_ids, sequences or 0, positions
        network = self._packed.network
        self._pass(self._tokens(count, first_scored))
        logits_KV = self._shared.logits[: (count - first_scored) * network.vocab_size]
        return logits_KV.reshape(-1, network.vocab_size)[:, : self.config.vocab_size]

    def _pass(self, tokens: Tokens) -> None:
        """Run a pass, together with the workers unless they have a break."""
        network, room, num_threads = self._packed.network, self._rooms[0][0], self.num_threads
        is_alone = num_threads == 1 or self._breaks.take()
        if not is_alone:
            self._workers.post(tokens.num_tokens, tokens.first_scored, self._meeting)
        num_threads = 1 if is_alone else num_threads
        self._meeting = run_pass(network, self._cache.record, room, tokens, 0, num_threads, self._meeting)
        if not is_alone:
            long_waits = self._shared.long_waits
            self._breaks.note(was_late=long_waits > self._long_waits)
            self._long_waits = long_waits

    def _tokens(self, count: int, first_scored: int) -> Tokens:
        start, row = self._given.ctypes.data, 8 * MAX_TOKENS
        return Tokens(start, start + row, start + 2 * row, count, first_scored)


class _SharedRoom:
    """What the threads of a pass write to together; and of each of them alone."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._partial = np.zeros((2 * network.num_parts, MAX_TOKENS, network.hidden_size), dtype=np.float32)
        self._arrivals = np.zeros(LINE * network.num_parts, dtype=np.int64)
        self.logits = np.zeros(MAX_TOKENS * network.vocab_size, dtype=np.float32)

    @property
    def long_waits(self) -> int:
        """How often the first thread has waited long for another."""
        return int(self._arrivals[1])

    def of_thread(self, context_length: int) -> tuple[Room, tuple[NDArray, ...]]:
        """Return what one more thread writes to, and the arrays behind it."""
        network, capacity = self._network, capacity_of(context_length)
        heads = (network.num_heads + 2 * network.num_key_heads) * network.head_dim
        made = max(-(-heads // 64) * 64, 2 * network.inner_size)
        inner = max(network.num_heads * network.head_dim, network.inner_size)
        strides = {
            "given_stride": HEAD + 4 * network.hidden_size, "made_stride": 4 * made, "inner_stride": HEAD + 4 * inner,
        }  # fmt: skip
        sizes = {
            "stream": 4 * MAX_TOKENS * network.hidden_size,
            "given": (MAX_TOKENS + 3) * strides["given_stride"],  # the head begins at any token, and takes four
            "made": MAX_TOKENS * strides["made_stride"],
            "inner": MAX_TOKENS * strides["inner_stride"],
            "scratch": max(2 * capacity, HEAD + network.head_dim),
            "scores": 4 * TOKENS * capacity,
        }
        arrays = {name: np.zeros(size, dtype=np.uint8) for name, size in sizes.items()}
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        shared = {
            "partial": self._partial.ctypes.data,
            "logits": self.logits.ctypes.data,
            "arrivals": self._arrivals.ctypes.data,
        }
        return Room(**addresses, **shared, **strides), tuple(arrays.values())
