"""CPUs with fewer instructions give the same bits: numba compiles for them here, and this one runs what they would."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from other_cpu import logits

from stentor.runtime.kernels.dots import byte_product_lanes

CPUS = {
    "AVX2": ("haswell", "+avx2,+fma,+f16c", 0),
    "AVX2 and its products of bytes": ("alderlake", "+avx2,+fma,+f16c,+avxvnni", 8),
    "neither AVX2 nor float16": ("x86-64-v2", "+sse4.2", 0),
}


each_cpu = pytest.mark.parametrize(("name", "features", "lanes"), CPUS.values(), ids=CPUS.keys())
pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for x86")


def has(feature: str) -> bool:
    information = Path("/proc/cpuinfo")
    return information.exists() and feature in information.read_text().split()


def told(name: str, features: str) -> dict[str, str]:
    return {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}


@pytest.mark.slow
@each_cpu
def test_logits_have_the_same_bits(name, features, lanes):
    """Also where sums of bytes are made from other instructions, and where a * b + c is a function's work."""
    if not has("avx_vnni" if lanes else "avx2"):
        pytest.skip("this CPU cannot run it")
    program = Path(__file__).parent / "other_cpu.py"
    ran = subprocess.run([sys.executable, str(program)], env=told(name, features), capture_output=True, check=True)
    ours = logits()
    assert np.array_equal(np.frombuffer(ran.stdout, dtype=np.float32).reshape(ours.shape), ours)


@each_cpu
def test_a_cpu_is_given_the_products_that_it_has(name, features, lanes):
    code = "from stentor.runtime.kernels.dots import byte_product_lanes; print(byte_product_lanes())"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=told(name, features), capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == lanes
    assert byte_product_lanes() in (0, 8, 16)
