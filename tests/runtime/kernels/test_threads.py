"""Threads wait for one another, and workers for work: none is missed, and who waits in vain sleeps."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import njit

from stentor.runtime.kernels.threads import LINE, meet, next_job, post
from stentor.runtime.kernels.vector import load_long, store_long


@njit(nogil=True)
def _relay(arrivals, board, thread, num_threads, rounds):
    """Each round every thread writes its number, meets, and adds up what all wrote."""
    summed, meeting = 0, 0
    for turn in range(rounds):
        store_long(board + 8 * LINE * thread, turn * num_threads + thread)
        meeting += 1
        meet(arrivals, thread, num_threads, meeting)
        for other in range(num_threads):
            summed += load_long(board + 8 * LINE * other)
        meeting += 1
        meet(arrivals, thread, num_threads, meeting)
    return summed


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_nobody_goes_on_before_all_have_come(num_threads):
    rounds = 50
    arrivals, board = np.zeros((2, LINE * num_threads), dtype=np.int64)
    _relay(arrivals.ctypes.data, board.ctypes.data, 0, 1, 0)  # compiled before it is timed against others
    sums = [0] * num_threads

    def run(thread: int) -> None:
        sums[thread] = _relay(arrivals.ctypes.data, board.ctypes.data, thread, num_threads, rounds)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = sum(range(rounds * num_threads))
    assert sums == [everything] * num_threads


def test_who_waits_long_notes_it():
    arrivals, board = np.zeros((2, LINE * 2), dtype=np.int64)
    late = threading.Timer(0.1, _relay, (arrivals.ctypes.data, board.ctypes.data, 1, 2, 1))
    _relay(arrivals.ctypes.data, board.ctypes.data, 0, 1, 0)
    late.start()
    _relay(arrivals.ctypes.data, board.ctypes.data, 0, 2, 1)
    late.join()
    assert arrivals[1] >= 1


@njit(nogil=True)
def _next(mailbox, thread, job, patience):
    return next_job(mailbox, thread, job, patience)


@njit(nogil=True)
def _post(mailbox, job, num_threads):
    return post(mailbox, job, num_threads)


@pytest.fixture
def mailbox() -> np.ndarray:
    """Return room for two workers and whoever posts."""
    return np.zeros(3 * LINE, dtype=np.int64)


def test_a_job_is_found(mailbox):
    _post(mailbox.ctypes.data, 4, 3)
    assert _next(mailbox.ctypes.data, 1, 3, 10) == 4


def test_who_waits_in_vain_sleeps_and_is_woken_once(mailbox):
    assert _next(mailbox.ctypes.data, 2, 0, 10) == 0
    assert _post(mailbox.ctypes.data, 1, 3) == 1 << 2
    assert _post(mailbox.ctypes.data, 2, 3) == 0
    assert _next(mailbox.ctypes.data, 1, 2, 10) == 2
    assert _next(mailbox.ctypes.data, 2, 2, 10) == 2
    assert _post(mailbox.ctypes.data, 3, 3) == 1 << 1 | 1 << 2
