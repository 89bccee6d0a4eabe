"""The front door of the command line, `stentor` and `python -m stentor`: it is open before anything is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Run the command line; a signal that comes while it is still being imported ends it without a traceback."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.getsignal(signum) for signum in signals}
    for signum in signals:
        if before[signum] is not signal.SIG_IGN:  # as in a shell's background job
            signal.signal(signum, _leave)
    from stentor.cli.main import main as run

    for signum in signals:
        signal.signal(signum, before[signum])
    run()


def _leave(signum: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # nothing has been opened yet


if __name__ == "__main__":
    main()
