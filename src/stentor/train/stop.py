"""Stopping on request: the first SIGINT, SIGTERM or SIGHUP saves and stops, a second one leaves at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, `kill`, and a terminal that was closed; Windows has no SIGHUP."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a stop was asked for; the previous handlers return at the end.

    Outside the main thread signals cannot be caught, and the function is always False.
    """
    requested = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        if requested.is_set():
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    signals = [signal.Signals[name] for name in _SIGNALS if name in signal.Signals.__members__]
    caught = [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]  # as nohup wants it
    previous = {signum: signal.signal(signum, handle) for signum in caught}
    try:
        yield requested.is_set
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
