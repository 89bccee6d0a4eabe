"""How many cores there are to use, and how many a network gains from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stentor.artifacts import write_file
from stentor.runtime import cores
from stentor.runtime.cores import fastest_num_threads, usable_cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "9900000 100000"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores_of_a_container(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    for name, text in files.items():
        write_file(tmp_path / name, text)
    assert usable_cores() == expected


def test_where_the_system_does_not_tell_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    assert usable_cores() == 6


class Clock:
    """A network whose passes take as long as is said, on a clock of its own."""

    num_parts, now = 4, 0.0

    def __init__(self, milliseconds: list[float], max_threads: int) -> None:
        self.milliseconds, self.max_threads, self.tried = milliseconds, max_threads, []
        self.config = SimpleNamespace(max_position_embeddings=100)

    def fresh(self, *, num_threads):
        self.tried.append(num_threads)
        return SimpleNamespace(config=self.config, extend=lambda ids, position: self.advance(num_threads, position))

    def advance(self, num_threads: int, position: int) -> None:
        stalled = 90 if position == 5 else 1  # once the system gave the core to somebody else
        self.now += self.milliseconds[num_threads - 1] / 1000 * stalled


@pytest.mark.parametrize(
    ("milliseconds", "max_threads", "expected"),
    [
        ([1.0, 0.6, 0.5, 0.4], 8, 4),
        ([1.0, 0.6, 0.5, 0.4], 2, 2),
        ([1.0, 0.6, 0.5, 0.4], 1, 1),
        ([1.0, 0.95, 0.93, 0.92], 8, 1),  # not worth another core
        ([1.0, 0.6, 9.0, 0.58], 8, 2),
        ([1.0, 50.0, 90.0, 100.0], 8, 1),
    ],
)
def test_the_fastest_number_is_found_by_timing(monkeypatch, milliseconds, max_threads, expected):
    network = Clock(milliseconds, max_threads)
    monkeypatch.setattr(cores.time, "perf_counter", lambda: network.now)
    assert fastest_num_threads(network) == expected  # type: ignore[arg-type]
    assert network.tried == list(range(1, min(4, max_threads) + 1))
