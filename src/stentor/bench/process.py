"""Run one setting in a process of its own, and learn how it did."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from stentor.bench.engine import Clock
from stentor.bench.setting import Measurement, Request
from stentor.errors import UserError

CHILD = ("-m", "stentor.bench.child")
TIMEOUT_S = 900
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_ERROR_LINES = 6


def measure_once(request: Request, *, clock: Clock = time.perf_counter) -> Measurement:
    """Measure a setting in a process of its own.

    Args:
        request: what to measure.
        clock: tells the time.

    Raises:
        UserError: the engine refused the model, crashed or hung; its last words are in the message.
    """
    with tempfile.TemporaryFile() as errors:
        started = clock()
        # -P: a file in the user's folder must not stand in for an engine's package.
        with subprocess.Popen(
            [sys.executable, "-P", *CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **_OFFLINE, "OMP_NUM_THREADS": str(request.setting.num_threads)},
        ) as child:
            watch = threading.Timer(TIMEOUT_S, child.kill)
            watch.start()
            try:
                result, cold_start_seconds = _converse(child, request, started, clock)
                status = child.wait()
            finally:
                watch.cancel()
                child.kill()
        if result is None:
            errors.seek(0)
            last_words = errors.read().decode(errors="replace").strip().splitlines()[-_ERROR_LINES:]
            raise UserError(f"the engine ended with status {status}: {' | '.join(last_words) or 'it said nothing'}")
    return Measurement(
        cold_start_seconds=cold_start_seconds,
        prefill_seconds=_by_number(result["prefill_seconds"]),
        decode_seconds=_by_number(result["decode_seconds"]),
        peak_bytes=result["peak_bytes"],
        version=result["version"],
    )


def _converse(
    child: subprocess.Popen[bytes], request: Request, started: float, clock: Clock
) -> tuple[dict[str, Any] | None, float]:
    """Return what the child said, None where it died before, and after how long its first token was there."""
    assert child.stdin
    assert child.stdout
    with contextlib.suppress(BrokenPipeError):  # its last words tell more
        child.stdin.write(json.dumps(request.to_dict()).encode())
        child.stdin.close()
    child.stdout.readline()
    cold_start_seconds = clock() - started
    line = child.stdout.readline()
    return (json.loads(line) if line else None), cold_start_seconds


def _by_number(values: dict[str, float]) -> dict[int, float]:
    return {int(number): value for number, value in values.items()}
