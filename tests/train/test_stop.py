"""Stop requests: the first signal is remembered, the second kills, handlers are put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from stentor.train.stop import stop_requests


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_remembered_and_the_handlers_return(signum):
    before = signal.getsignal(signum)
    with stop_requests() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), signum)
        assert stop_requested()
    assert signal.getsignal(signum) is before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stop_requested:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_ends_the_process():
    program = (
        "import os, signal\n"
        "from stentor.train.stop import stop_requests\n"
        "with stop_requests() as stop_requested:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('first', stop_requested(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "first True\n"
    assert done.returncode == -signal.SIGTERM


def test_outside_the_main_thread_nothing_is_caught():
    seen = []

    def work() -> None:
        with stop_requests() as stop_requested:
            seen.append(stop_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
