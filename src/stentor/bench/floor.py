"""What bounds a decoding engine from below: each token has to read all weights and all keys and values before it."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
from numpy.typing import NDArray

from stentor.bench.engine import Clock
from stentor.bench.setting import Setting
from stentor.model.config import ModelConfig
from stentor.model.names import EMBEDDING, HEAD, expected_shapes
from stentor.runtime.compiled import Float, Int, kernel
from stentor.runtime.kernels.vector import floats, largest, load_floats, maximum, store_float

_NUM_BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "q8_0": 34 / 32, "int4": 18 / 32}
"""Of a number in each data type; scales that belong to a whole row or head are not counted."""
_HEAD_DTYPES = {"int4": "int8"}
"""Of the head, where it is not that of the layers."""
_SECONDS, _TRIES = 0.05, 3
_STREAMS = 4
_BLOCK_BYTES = 256 * _STREAMS


def weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Return the bytes of all matrices that a token is multiplied with; an untied embedding is only looked into."""
    num_bytes = 0.0
    for name, shape in expected_shapes(config).items():
        if len(shape) > 1 and (config.tie_word_embeddings or name != EMBEDDING):
            is_head = name in (EMBEDDING, HEAD)
            num_bytes += math.prod(shape) * _NUM_BYTES[_HEAD_DTYPES.get(dtype, dtype) if is_head else dtype]
    return round(num_bytes)


def cache_bytes(config: ModelConfig, dtype: str, num_tokens: int) -> int:
    """Return the bytes of the keys and values of so many tokens."""
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return round(num_tokens * numbers * _NUM_BYTES[dtype])


def bytes_of_a_token(config: ModelConfig, setting: Setting, position: int) -> int:
    """Return what has to be read to make the token after those before and at a position."""
    return weight_bytes(config, setting.dtype) + cache_bytes(config, setting.cache_dtype, position + 1)


def read_bytes_per_second(num_bytes: int, num_threads: int, *, clock: Clock = time.perf_counter) -> float:
    """Measure how fast threads read a buffer together, over and over, each its own part of it.

    What fits a cache comes from there, as an engine's weights do: the buffer should be as large as they are.

    Args:
        num_bytes: of the buffer.
        num_threads: that read.
        clock: tells the time.
    """
    num_blocks = max(1, num_bytes // (_BLOCK_BYTES * num_threads))
    buffer = np.ones(num_threads * num_blocks * _BLOCK_BYTES, dtype=np.uint8)
    parts = np.split(buffer, num_threads)
    _seconds_of(parts, 1, clock)  # compiles, and touches every page
    num_passes = max(1, int(_SECONDS / max(_seconds_of(parts, 1, clock), 1e-9)))
    fastest = min(_seconds_of(parts, num_passes, clock) for _ in range(_TRIES))
    return buffer.size * num_passes / fastest


def _seconds_of(parts: list[NDArray[np.uint8]], num_passes: int, clock: Clock) -> float:
    threads = [threading.Thread(target=_read, args=(part.ctypes.data, part.size, num_passes)) for part in parts]
    started = clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock() - started


@kernel
def _read(start: Int, num_bytes: Int, num_passes: Int) -> Float:
    """Read bytes so many times, as a few streams side by side: the hardware fetches ahead in each of them."""
    stride, found = num_bytes // _STREAMS, np.float32(0)
    for _ in range(num_passes):
        a = floats(np.float32(0))
        b, c, d = a, a, a
        for place in range(start, start + stride, 256):
            for stream in range(_STREAMS):
                line = place + stream * stride
                a, b = a + load_floats(line), b + load_floats(line + 64)
                c, d = c + load_floats(line + 128), d + load_floats(line + 192)
        found = largest(maximum(maximum(a, b), maximum(c, d)))
        store_float(start, found)  # what is written back cannot be left out, nor read but once
    return found
