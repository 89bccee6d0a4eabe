"""Doors that do what no reader may, so that a test can see that it is noticed."""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MISBEHAVING: dict[str, Callable[[Path], dict[str, str]]] = {
    "behaves": lambda path: {"it": path.name},
    "hangs": lambda path: {"it": str(time.sleep(60))},
    "crashes": lambda path: os.abort(),
    "raises": lambda path: {"it": str(1 // 0)},
    "exits": lambda path: {"it": str(sys.exit(3))},
    "fills memory": lambda path: {"it": str(np.ones(100 << 20, np.uint8).sum())},
    "fills memory without Python": lambda path: {"it": str(len(_filled(100 << 20)))},
    "reserves memory": lambda path: {"it": str(np.empty(1 << 40, np.uint8).nbytes)},
}


def _filled(num_bytes: int) -> mmap.mmap:
    area = mmap.mmap(-1, num_bytes)
    for start in range(0, num_bytes, 4096):
        area[start] = 1
    return area
