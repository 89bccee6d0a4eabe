"""The measuring process itself: what no reader may do is noticed, and the next file is opened all the same."""

from __future__ import annotations

import sys

import pytest
from worker import FLOOR_BYTES, Worker

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak anew")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


@pytest.mark.parametrize(
    ("door", "outcome"),
    [
        ("behaves", "opened"),
        ("raises", "raised"),
        ("exits", "raised"),
        ("crashes", "died"),
        ("hangs", "hung"),
        pytest.param("reserves memory", "raised", marks=linux),
    ],
)
def test_how_it_ended_is_told(worker, tmp_path, door, outcome):
    worker.open("behaves", tmp_path)
    assert worker.open(door, tmp_path, seconds=1.0)["outcome"] == outcome
    assert worker.open("behaves", tmp_path)["content"] == {"it": tmp_path.name}


@linux
@pytest.mark.parametrize("door", ["fills memory", "fills memory without Python"])
def test_memory_is_counted_whoever_takes_it_and_each_time_anew(worker, tmp_path, door):
    worker.open("behaves", tmp_path)
    for _ in range(2):
        assert (99 << 20) <= worker.open(door, tmp_path)["num_bytes"] < (120 << 20)
        assert worker.open("behaves", tmp_path)["num_bytes"] < FLOOR_BYTES // 16
