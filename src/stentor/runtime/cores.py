"""The cores this process may use, and how many of them make a network faster."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stentor.runtime.cpu import CpuNetwork

_CGROUPS = Path("/sys/fs/cgroup")
_PASSES, _FIRST_PASSES = 9, 2
_WORTHWHILE = 0.9
"""Of the time with fewer threads: a thread more that gains less is left to others."""


def usable_cores() -> float:
    """Return the cores this process may use: not more than its affinity and its container's quota allow."""
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS and Windows
        cores = float(os.cpu_count() or 1)
    quota, _, period = _read(_CGROUPS / "cpu.max").partition(" ")
    if not quota:  # version 1
        quota, period = (_read(_CGROUPS / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, int(quota) / int(period))
    return cores


def fastest_num_threads(network: CpuNetwork) -> int:
    """Return the threads with which passes over one token are fastest, by timing some with each number of them.

    It depends on the model and the machine, and on what else the machine does: threads meet twice a layer, and wait
    long for one that has no core.

    Args:
        network: what is to be fast; nothing of it is changed.
    """
    best, best_seconds = 1, _pass_seconds(network, 1)
    for num_threads in range(2, min(network.num_parts, network.max_threads) + 1):
        seconds = _pass_seconds(network, num_threads)
        if seconds < _WORTHWHILE * best_seconds:
            best, best_seconds = num_threads, seconds
    return best


def _pass_seconds(network: CpuNetwork, num_threads: int) -> float:
    twin, seconds = network.fresh(num_threads=num_threads), []
    for position in range(min(_FIRST_PASSES + _PASSES, network.config.max_position_embeddings)):
        started = time.perf_counter()
        twin.extend([0], position)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_FIRST_PASSES:] or seconds)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
