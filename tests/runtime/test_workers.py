"""Workers run their share of every pass, in order, and end when they are told to."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import pytest

from stentor.runtime.kernels.threads import LINE
from stentor.runtime.workers import FIRST_BREAK, Breaks, Workers


class Server:
    """A worker's work in plain Python: it notes what is posted."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.returns = 0

    def __call__(self, mailbox: int, thread: int, num_threads: int, job: int, patience: int) -> int:
        box = np.ctypeslib.as_array((ctypes.c_int64 * (LINE * num_threads)).from_address(mailbox))
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:
            if box[0] != job:
                job = int(box[0])
                if job < 0:
                    return job
                self.seen.append((job, int(box[1])))
            time.sleep(0.0005)
        box[LINE * thread] = 1  # asleep, as `threads.next_job` says it
        self.returns += 1
        return job


def eventually(holds) -> bool:
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds()


@pytest.mark.parametrize("count", [1, 3])
def test_every_pass_is_seen_by_all_asleep_or_not(count):
    servers = [Server() for _ in range(count)]
    workers = Workers(servers)
    for job, pause in enumerate((0.0, 0.005, 0.06, 0.0), start=1):
        time.sleep(pause)
        workers.post(10 * job, 0, 0)
        assert eventually(lambda job=job: all(server.seen[-1:] == [(job, 10 * job)] for server in servers))
    assert any(server.returns for server in servers), "a pause of 60 ms is more than their patience"
    workers.close()
    assert [server.seen for server in servers] == [[(1, 10), (2, 20), (3, 30), (4, 40)]] * count


def test_nothing_is_started_before_there_is_work():
    before = threading.active_count()
    workers = Workers([Server()])
    assert threading.active_count() == before
    workers.close()


def test_without_servers_a_post_is_nothing():
    before = threading.active_count()
    workers = Workers([])
    workers.post(1, 0, 0)
    workers.close()
    assert threading.active_count() == before


def test_closing_ends_threads_that_sleep():
    workers = Workers([Server()])
    before = set(threading.enumerate())
    workers.post(1, 0, 0)
    started = set(threading.enumerate()) - before
    assert started
    time.sleep(0.06)
    workers.close()
    assert not any(thread.is_alive() for thread in started)


# ----------------------------------------------------------------------------------------------------------- breaks


def test_workers_that_come_in_time_have_no_breaks():
    breaks = Breaks()
    for _ in range(50):
        assert not breaks.take()
        breaks.note(was_late=False)


def test_breaks_double_while_workers_are_late_and_begin_anew_after():
    breaks, lengths = Breaks(), []
    for _ in range(9):
        assert not breaks.take()
        breaks.note(was_late=True)
        lengths.append(next(index for index in range(5000) if not breaks.take()))
    assert lengths == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    breaks.note(was_late=False)
    assert not breaks.take()
    breaks.note(was_late=True)
    assert sum(breaks.take() for _ in range(100)) == FIRST_BREAK
