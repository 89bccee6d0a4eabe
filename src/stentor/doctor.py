"""What this machine has, what is missing, and what will be slow here. Needs the base install alone.

Nothing is written and nothing is asked of the network. What a system does not tell is `unknown`, never a guess.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import operator
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stentor.model.presets import preset
from stentor.runtime.cores import usable_cores
from stentor.version import __version__

State = Literal["ok", "slow", "missing"]
UNKNOWN = "unknown"

_REFERENCE, _REFERENCE_TOKENS = "stentor2-12m", 240_001_024
_FEATURES = (
    *("avx2", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)
"""What decides the speed of int8 and bfloat16 products, under the Linux kernel's names."""
_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_APPLE_FEATURES = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
_FEW_CORES = 2
_LITTLE_MEMORY_BYTES = 4e9
_LITTLE_DISK_BYTES = 5e9
_MATMUL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found out.

    Attributes:
        topic: `machine`, `compute` or `packages`.
        name: what was looked at.
        value: what was found, for people.
        state: `ok`, `slow` (it works, but) or `missing`.
        advice: what it means and what to do about it; empty when all is well.
    """

    topic: str
    name: str
    value: str
    state: State = "ok"
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


def examine(folder: Path = Path()) -> list[Finding]:
    """Look at this machine; takes about a second, longer where torch is installed and has to be imported.

    Args:
        folder: whose disk is looked at.
    """
    features = cpu_features()
    return [*_machine(folder), *_compute(features), *_packages()]


# --- machine ------------------------------------------------------------------------------------------------


def _machine(folder: Path) -> Iterator[Finding]:
    yield Finding("machine", "stentor", __version__)
    yield Finding("machine", "Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("machine", "system", platform.platform())
    yield _judged("memory", memory_bytes(), _LITTLE_MEMORY_BYTES, "use a smaller train.micro_batch_size")
    yield _judged(
        "free disk here",
        shutil.disk_usage(folder).free,
        _LITTLE_DISK_BYTES,
        "the corpus and shards of a large recipe may not fit; choose another disk or a smaller text.max_bytes",
    )
    for name, cache in _cache_folders():
        if _is_writable(cache):
            yield Finding("machine", f"cache ({name})", str(cache))
        else:
            advice = f"downloads and compiled files cannot be kept: make {cache} writable, or set {name} to a folder"
            yield Finding("machine", f"cache ({name})", f"{cache}, not writable", "slow", advice)


def _judged(name: str, num_bytes: int | None, little: float, advice: str) -> Finding:
    if num_bytes is None:
        return Finding("machine", name, UNKNOWN)
    value = f"{num_bytes / 1e9:.1f} GB"
    return Finding("machine", name, value, "slow", advice) if num_bytes < little else Finding("machine", name, value)


def _cache_folders() -> Iterator[tuple[str, Path]]:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    yield "HF_HOME", Path(os.environ.get("HF_HOME") or base / "huggingface")
    yield "MPLCONFIGDIR", Path(os.environ.get("MPLCONFIGDIR") or base / "matplotlib")


def _is_writable(folder: Path) -> bool:
    """Tell whether files could be made in a folder that may not exist yet; makes none."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def memory_bytes() -> int | None:
    """Return the memory this process may use: the machine's, or its container's if that is less; None: unknown."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(Path("/sys/fs/cgroup") / name).strip()
        if text.isdigit():
            found.append(int(text))
    return min(found)


# --- compute ------------------------------------------------------------------------------------------------


def _compute(features: list[str] | None) -> Iterator[Finding]:
    yield Finding("compute", "CPU", cpu_model())
    yield Finding("compute", "CPU features", UNKNOWN if features is None else " ".join(features) or "none that matter")
    cores = usable_cores()
    value = f"{cores:g} of {os.cpu_count() or cores:g} usable"
    if cores > _FEW_CORES:
        yield Finding("compute", "cores", value)
    else:
        yield Finding("compute", "cores", value, "slow", "whatever does not run on a GPU has only these")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < cores:
        yield Finding("compute", "OMP_NUM_THREADS", threads, "slow", "it leaves cores idle; unset it")
    accelerator = _accelerator()
    yield accelerator
    if accelerator.state != "ok":
        precision = _cpu_precision(features)
        yield precision
        yield _cpu_training(precision.value)


def _accelerator() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        advice = "training and evaluation need it: pip install 'stentor[train]'"
        return Finding("compute", "torch", "not installed", "missing", advice)
    except Exception as error:  # a broken installation fails in ways of its own
        first_line = str(error).partition("\n")[0]
        return Finding("compute", "torch", f"cannot be imported ({first_line})", "missing", "install torch again")
    if torch.cuda.is_available():
        return _cuda(torch)
    if torch.backends.mps.is_available():
        return Finding("compute", "device", f"Apple GPU (mps), torch {torch.__version__}, float32")
    advice = "everything runs on the CPU"
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        advice = f"there seems to be an NVIDIA GPU, which this torch ({torch.__version__}) cannot use: install the "
        advice += "build for CUDA, see https://pytorch.org/get-started"
    return Finding("compute", "device", f"cpu, torch {torch.__version__}", "slow", advice)


def _cuda(torch: Any) -> Finding:
    properties = torch.cuda.get_device_properties(0)
    count = torch.cuda.device_count()
    name = f"{f'{count} x ' if count > 1 else ''}{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    precision = "bfloat16" if (properties.major, properties.minor) >= (8, 0) else "float32, no bfloat16"
    return Finding("compute", "device", f"{name}, torch {torch.__version__}, {precision}")


def _cpu_precision(features: list[str] | None) -> Finding:
    if features is None:
        return Finding("compute", "precision", UNKNOWN)
    if _NATIVE_BFLOAT16 & set(features):
        return Finding("compute", "precision", "bfloat16")
    advice = "this CPU does not multiply bfloat16, so training uses float32, at about half the speed"
    return Finding("compute", "precision", "float32", "slow", advice)


def _cpu_training(precision: str) -> Finding:
    """Estimate the reference's training: 6 operations per parameter and token, at a rate measured now."""
    flops_per_second = matmul_flops_per_second(precision)
    config = preset(_REFERENCE)
    hours = 6 * config.num_parameters * _REFERENCE_TOKENS / flops_per_second / 3600
    length = f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.1f} days"
    advice = (
        f"{_REFERENCE} on its {_REFERENCE_TOKENS / 1e6:.0f}M tokens would take at least {length} on this CPU (an "
        "estimate: 6 operations per parameter and token at that rate). `stentor train --dry-run` measures a recipe; "
        "begin with `stentor demo`, which takes minutes, or use a GPU"
    )
    return Finding("compute", "matrix products", f"{flops_per_second / 1e9:.0f} GFLOP/s", "slow", advice)


def matmul_flops_per_second(precision: str, seconds: float = _MATMUL_SECONDS) -> float:
    """Measure matrix products of the reference model's shapes on all cores: torch's if it is here, else numpy's.

    Args:
        precision: `bfloat16`, if torch can be imported; anything else is float32.
        seconds: how long to try; the fastest product counts, so that other work on the machine does not.
    """
    config = preset(_REFERENCE)
    tokens: Any = np.ones((4096, config.hidden_size), dtype=np.float32)
    weights: Any = np.ones((config.hidden_size, config.intermediate_size), dtype=np.float32)
    if torch := sys.modules.get("torch"):
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        tokens, weights = torch.from_numpy(tokens).to(dtype), torch.from_numpy(weights).to(dtype)
    fastest_seconds, until = math.inf, time.perf_counter() + seconds
    while (started := time.perf_counter()) < until or fastest_seconds == math.inf:
        operator.matmul(tokens, weights)
        fastest_seconds = min(fastest_seconds, time.perf_counter() - started)
    return 2 * 4096 * config.hidden_size * config.intermediate_size / fastest_seconds


def cpu_model() -> str:
    """Return the processor's name."""
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    if match:
        return match[1].strip()
    return _sysctl("machdep.cpu.brand_string").partition(": ")[2].strip() or platform.processor() or UNKNOWN


def cpu_features() -> list[str] | None:
    """Return the CPU features that matter here, under the Linux kernel's names; None where they are unknown."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    if match:
        flags = set(match[1].split())
        return [name for name in _FEATURES if name in flags]
    lines = dict(line.split(": ", 1) for line in _sysctl("hw.optional").splitlines() if ": " in line)
    if not lines:
        return None
    return [name for key, name in _APPLE_FEATURES.items() if lines.get(key) == "1"]


def _sysctl(key: str) -> str:
    """Ask macOS; lines of `name: value`, or nothing elsewhere."""
    if sys.platform != "darwin":
        return ""
    try:
        return subprocess.run(["/usr/sbin/sysctl", key], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# --- packages -----------------------------------------------------------------------------------------------


def _packages() -> Iterator[Finding]:
    requirements = importlib.metadata.requires("stentor") or []
    for extra, packages in requirements_by_extra(requirements).items():
        found = {package: _installed_version(package) for package in packages}
        missing = [
            f"{package}>={least}" if least else package
            for package, least in packages.items()
            if (version := found[package]) is None or _as_numbers(version) < _as_numbers(least)
        ]
        value = ", ".join(f"{package} {version}" for package, version in found.items() if version) or "none"
        name = extra or "base"
        if missing:
            command = f"pip install 'stentor[{extra}]'" if extra else "pip install -U stentor"
            yield Finding("packages", name, value, "missing", f"{', '.join(missing)} missing: {command}")
        else:
            yield Finding("packages", name, value)


def requirements_by_extra(requirements: list[str]) -> dict[str, dict[str, str]]:
    """Sort requirement strings into extras, `""` for the base; those for developers, and `all`, are left out.

    Args:
        requirements: as package metadata has them, `torch>=2.11; extra == 'train'`.

    Returns:
        For each extra its packages, and the least version each must have (empty: any).
    """
    extras: dict[str, dict[str, str]] = {}
    for requirement in requirements:
        match = re.match(r"([\w.-]+)\s*(?:\[.*?\])?\s*(?:>=\s*([\w.]+))?", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if match and match[1] != "stentor":
            extras.setdefault(extra[1] if extra else "", {})[match[1]] = match[2] or ""
    return {extra: packages for extra, packages in extras.items() if extra not in ("all", "dev", "docs")}


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _as_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
