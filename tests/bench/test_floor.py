"""The bytes that a token must read are those of the model, and how fast they are read is counted right."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from stentor.bench import floor
from stentor.bench.floor import bytes_of_a_token, cache_bytes, read_bytes_per_second, weight_bytes
from stentor.bench.setting import Setting
from stentor.model.presets import preset


def test_the_reference_s_bytes():
    config = preset("stentor2-12m")
    matrices = 8064 * 256 + 12 * (4 * 256 * 256 + 3 * 256 * 768)
    assert weight_bytes(config, "int8") == matrices
    assert weight_bytes(config, "float32") == 4 * matrices
    assert weight_bytes(config, "q8_0") == matrices * 34 // 32
    head = 8064 * 256  # in INT8, while blocks of 32 weights of the layers take 16 bytes and a scale of two
    assert weight_bytes(config, "int4") == (matrices - head) * 18 // 32 + head
    assert cache_bytes(config, "int8", 10) == 10 * 2 * 12 * 256
    assert cache_bytes(config, "float16", 10) == 2 * cache_bytes(config, "int8", 10)


def test_an_untied_embedding_is_not_read_whole(tiny_config):
    tied, untied = (dataclasses.replace(tiny_config, tie_word_embeddings=tied) for tied in (True, False))
    assert weight_bytes(tied, "int8") == weight_bytes(untied, "int8")


def test_a_token_reads_its_own_key_too(tiny_config):
    setting = Setting(engine="stentor", dtype="int8", cache_dtype="float32")
    assert bytes_of_a_token(tiny_config, setting, 0) > weight_bytes(tiny_config, "int8")
    assert bytes_of_a_token(tiny_config, setting, 9) - weight_bytes(tiny_config, "int8") == cache_bytes(
        tiny_config, "float32", 10
    )


@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_thread_reads_all_of_its_part(monkeypatch, num_threads, clock):
    """The work is noted instead of done; a byte takes a nanosecond, whoever reads it."""
    read = []

    def note(start: int, num_bytes: int, num_passes: int) -> None:
        read.append((start, num_bytes, num_passes))
        clock.now += num_bytes * num_passes / 1e9

    monkeypatch.setattr(floor, "_read", note)
    assert read_bytes_per_second(4_000_000, num_threads, clock=clock) == pytest.approx(1e9, rel=1e-6)
    parts = sorted({(start, size) for start, size, _ in read[-num_threads:]})
    assert len(parts) == num_threads
    assert all(start + size == after for (start, size), (after, _) in itertools.pairwise(parts))
    assert sum(size for _, size in parts) == pytest.approx(4_000_000, rel=1e-3)
    assert max(passes for *_, passes in read) > 5


def test_the_kernel_reads_every_line():
    values = np.arange(4 * 4 * 64, dtype=np.float32)  # four streams of 1,024 bytes
    for place in range(0, values.size, 16):
        values[:] = 0
        values[place : place + 16] = 3 + place
        assert floor._read(values.ctypes.data, values.nbytes, 1) == 3 + place


def test_real_memory_is_read():
    assert read_bytes_per_second(100_000, 1) > 1e8
