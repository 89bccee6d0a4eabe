"""A process that opens files one after another, and says what came of each: how it ended, how long, how much memory.

A file that kills it, or keeps it longer than the limit, costs one process; the next file gets a new one.

What a file takes is the rise of the process's peak of resident memory while it is opened, whoever allocates it (Python,
NumPy, torch, Rust or Arrow). Freed memory is given back to the system before, so that none is used again unseen. A cap
on the address space turns an absurd allocation that is never touched into an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MAX_SECONDS = 2.0
FLOOR_BYTES = 64 << 20
"""Memory that opening may take beside four times the file: blocks of a compressed text alone may be this large."""
_SLACK_BYTES = 2 << 30
FIRST_SECONDS = 300.0
_STATUS = Path("/proc/self/status")


class Worker:
    """The parent's side: asks a child, and starts another when that one is gone."""

    def __init__(self, cache: Path) -> None:
        cache.mkdir(exist_ok=True)
        self._environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
        self._folder = cache
        self._process: subprocess.Popen[str] | None = None

    def open(self, door: str, path: Path, *, seconds: float = MAX_SECONDS) -> dict[str, Any]:
        """Let a door open a path.

        Args:
            door: a name of `doors.DOORS`.
            path: of the file or folder.
            seconds: that it may take; FIRST_SECONDS where modules may have to be imported.

        Returns:
            `outcome` (`opened`, `refused`, `raised`, `hung`, `died`) and what belongs to it.
        """
        limit = seconds if self._process else FIRST_SECONDS
        process = self._running()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([door, str(path)]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], limit)[0]:
            self.close()
            return {"outcome": "hung", "seconds": limit}
        if not (line := process.stdout.readline()):
            code = process.wait()
            self.close()
            return {"outcome": "died", "code": code}
        return json.loads(line)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self._folder,
                env=self._environment,
            )
        return self._process

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


# --- the child's side ---


def _memory(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


@contextlib.contextmanager
def _measured(report: dict[str, Any]) -> Any:
    """Note seconds, and where the system tells them, bytes."""
    can_measure = _STATUS.exists()
    before = 0
    if can_measure:
        import resource

        gc.collect()
        gc.freeze()  # what is left stays; the next collection need not look at it
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        limit = _memory("VmSize") + _SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    started = time.perf_counter()
    try:
        yield
    finally:
        report["seconds"] = time.perf_counter() - started
        report["num_bytes"] = max(0, _memory("VmHWM") - before) if can_measure else 0


def _opened(door: str, path: Path) -> dict[str, Any]:
    from doors import DOORS
    from misbehaving import MISBEHAVING

    from stentor.errors import StentorError

    report: dict[str, Any] = {}
    with _measured(report):
        try:
            report |= {"outcome": "opened", "content": {**DOORS, **MISBEHAVING}[door](path)}
        except StentorError as error:
            report |= {"outcome": "refused", "kind": type(error).__name__, "message": error.message, "fix": error.fix}
        except BaseException as error:
            report |= {"outcome": "raised", "message": repr(error)[:500], "traceback": traceback.format_exc()[-3000:]}
    return report


def main() -> None:
    """Answer until nobody asks any more; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        door, path = json.loads(line)
        print(json.dumps(_opened(door, Path(path))), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    main()
