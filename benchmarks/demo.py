"""Claim: the demo ends within its time on this machine, and its model beats xz and gzip on text it never saw.

usage: python benchmarks/demo.py        (runs `stentor demo --json` in an empty folder, offline)
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

from record import Claim, record

LIMIT_SECONDS = 360.0


def main() -> None:
    """Run the demo as a user would, and record its time, memory and bits per byte."""
    command = [sys.executable, "-m", "stentor", "demo", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        done = subprocess.run(
            [*command, "--out", f"{folder}/demo"],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds = time.monotonic() - started
    result = json.loads(done.stdout)
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    bits = result["bits_per_byte"]
    common = {"unit": "bits per byte", "better": "lower", "value": bits}
    path = record(
        "demo",
        [
            Claim(what="held-out text", peer="xz -9e", peer_value=result["xz_bits_per_byte"], **common),
            Claim(what="held-out text", peer="gzip -9", peer_value=result["gzip_bits_per_byte"], **common),
            Claim(what="held-out text", peer="token unigram", peer_value=result["unigram_bits_per_byte"], **common),
            Claim(what="time of the demo", value=seconds, unit="s", better="lower", target=LIMIT_SECONDS),
            Claim(what="peak memory of the demo", value=peak_bytes / 1e6, unit="MB", better="lower"),
        ],
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
