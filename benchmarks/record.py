"""How every benchmark writes its result: `benchmarks/results/NAME.json`, from which the README's numbers are read."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from stentor.artifacts import write_file

RESULTS = Path(__file__).parent / "results"
VERSIONS_OF = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "numba",
    "gguf",
    "onnxruntime",
    "xllamacpp",
    "llama-cpp-python",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One measured number, and what it is measured against in the same run.

    Attributes:
        what: the quantity.
        value: as measured.
        unit: of the value.
        better: `higher` or `lower`.
        target: what it should reach; None where there is none.
        peer: the name of what it is compared with.
        peer_value: measured in the same run.
    """

    what: str
    value: float
    unit: str
    better: str
    target: float | None = None
    peer: str | None = None
    peer_value: float | None = None


def record(
    name: str, claims: list[Claim], details: Mapping[str, object] | None = None, *, machine: str | None = None
) -> Path:
    """Write a benchmark's claims beside the others, with all that is needed to repeat it.

    Args:
        name: of the benchmark.
        claims: what the README shows.
        details: what it does not show, such as counts that the claims are sums of.
        machine: on which all of it was measured, where that is not this one.
    """
    path = RESULTS / f"{name}.json"
    body = {
        "name": name,
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": machine or f"{platform.system()} {platform.machine()}, {_gpu() or _cpu()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **_versions()},
        "claims": [asdict(claim) for claim in claims],
        **({"details": dict(details)} if details else {}),
    }
    write_file(path, json.dumps(body, indent=2) + "\n")
    return path


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS_OF:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _gpu() -> str:
    """Return the GPU's name, where this process has used one."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else ""


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
