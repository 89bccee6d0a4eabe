"""How much memory this process has taken, where the system tells."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int | None:
    """Return the most memory that this process had at any time; None where it is unknown.

    Linux counts the parent's among what `getrusage` reports of a child, so its own file is read there.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
