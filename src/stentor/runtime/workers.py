"""Threads beside the caller's, each running compiled code that waits for work, and asleep between requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from stentor.runtime.kernels.step import post_pass
from stentor.runtime.kernels.threads import LINE

PATIENCE = 2_000_000
"""Looks at the mailbox before a worker sleeps: half a millisecond or more, longer than a token takes to be chosen."""
Serve = Callable[[int, int, int, int, int], int]
"""Works off what is in a mailbox; takes its address, the thread, threads in all, the last job done, and patience."""


FIRST_BREAK, LONGEST_BREAK = 16, 1024
"""Passes that the caller makes alone."""


class Breaks:
    """Leaves workers out for some passes after one that had to wait for them, and for twice as many after the next.

    Other work takes their cores then. The system gives a core to one thread for milliseconds, in which the caller alone
    makes many passes.
    """

    def __init__(self) -> None:
        self._length, self._left = FIRST_BREAK, 0

    def take(self) -> bool:
        """Tell whether the next pass is made without them."""
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def note(self, *, was_late: bool) -> None:
        """Learn from a pass that they shared."""
        self._left = self._length if was_late else 0
        self._length = min(2 * self._length, LONGEST_BREAK) if was_late else FIRST_BREAK


class Workers:
    """Starts a thread for each server when there is the first work.

    Args:
        servers: what each runs; see `step.serve`.
    """

    def __init__(self, servers: Sequence[Serve]) -> None:
        self._servers = servers
        self._mailbox = np.zeros(LINE * (len(servers) + 1), dtype=np.int64)
        self._wakeups = [threading.Event() for _ in servers]
        self._threads: list[threading.Thread] = []
        self._job = 0

    def post(self, count: int, first_scored: int, meeting: int) -> None:
        """Have every worker run its share of a pass; arguments as in `step.post_pass`."""
        if not self._servers:
            return
        if not self._threads:
            self._start()
        self._job += 1
        self._tell(self._job, count, first_scored, meeting)

    def close(self) -> None:
        """End all threads."""
        if self._threads:
            self._tell(-1, 0, 0, 0)
            for thread in self._threads:
                thread.join()
            self._threads = []

    def _tell(self, job: int, count: int, first_scored: int, meeting: int) -> None:
        num_threads = len(self._servers) + 1
        sleeping = post_pass(self._mailbox.ctypes.data, job, num_threads, count, first_scored, meeting)
        for thread, wakeup in enumerate(self._wakeups, start=1):
            if sleeping >> thread & 1:
                wakeup.set()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._work, args=(serve, number), daemon=True, name=f"stentor-{number}")
            for number, serve in enumerate(self._servers, start=1)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, serve: Serve, number: int) -> None:
        job, wakeup = 0, self._wakeups[number - 1]
        while job >= 0:
            job = serve(self._mailbox.ctypes.data, number, len(self._servers) + 1, job, PATIENCE)
            if job >= 0:
                wakeup.wait()
                wakeup.clear()
