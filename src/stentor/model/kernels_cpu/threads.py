"""Work on blocks of rows, shared among the threads that torch has already.

Two pools of threads on the same cores would wait in turns: torch's spin for milliseconds after each of its own
operations. So the blocks are given to torch's OpenMP itself; where it cannot be asked, to threads of Python's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Team = Callable[[Callable[[], None], int], None]
"""Calls a function once in each of so many threads at a time, and waits for all."""


def over_blocks(work: Callable[[int], object], num_blocks: int) -> None:
    """Call `work` with the number of each block, in no certain order, from `torch.get_num_threads()` threads.

    Args:
        work: must let go of the interpreter's lock while it computes, and write nothing that another block reads.
        num_blocks: how often it is called.
    """
    num_threads = min(torch.get_num_threads(), num_blocks)
    if num_threads <= 1:
        for block in range(num_blocks):
            work(block)
        return
    blocks, failures = iter(range(num_blocks)), []

    def share() -> None:
        try:
            for block in blocks:
                work(block)
        except BaseException as error:
            failures.append(error)

    (_openmp_team() or _python_team)(share, num_threads)
    if failures:
        raise failures[0]


def over_row_blocks(work: Callable[[int, int, int], object], num_rows: int, rows_per_block: int) -> None:
    """Call `work` with the number, the first row and the end of each block of rows; see `over_blocks`."""

    def take(block: int) -> None:
        start = block * rows_per_block
        work(block, start, min(start + rows_per_block, num_rows))

    over_blocks(take, blocks_of(num_rows, rows_per_block))


def blocks_of(num_rows: int, rows_per_block: int) -> int:
    """Return how many blocks cover the rows."""
    return -(-num_rows // rows_per_block)


@cache
def _openmp_team() -> Team | None:
    """Return the entry to the OpenMP library that torch itself was loaded with, or None."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        parallel: Any = ctypes.CDLL(str(path)).GOMP_parallel  # found among the libraries that torch depends on
    except (OSError, AttributeError):
        return None
    parallel.argtypes, parallel.restype = (_TASK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None

    def run(share: Callable[[], None], num_threads: int) -> None:
        parallel(_TASK(lambda _: share()), None, num_threads, 0)

    return run


def _python_team(share: Callable[[], None], num_threads: int) -> None:
    pool = _pool(num_threads - 1)
    others = [pool.submit(share) for _ in range(num_threads - 1)]
    share()
    for other in others:
        other.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="stentor-kernels")
