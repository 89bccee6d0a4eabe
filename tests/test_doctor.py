"""The doctor tells the truth about made-up machines, and never fails on a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stentor import doctor
from stentor.cli.doctor import doctor as command
from stentor.doctor import Finding, examine, requirements_by_extra

CPUINFO = """processor\t: 0
model name\t: AMD EPYC 9R14
flags\t\t: fpu sse2 avx avx2 f16c avx512f avx512_vnni avx512_bf16 rdtscp
"""
ARM_CPUINFO = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16 sve\nCPU part\t: 0xd40\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "_MATMUL_SECONDS", 0.001)


@pytest.fixture
def files(monkeypatch):
    """Serve made-up system files; all others are missing."""
    made_up: dict[str, str] = {}
    monkeypatch.setattr(doctor, "_read", lambda path: made_up.get(path.as_posix(), ""))
    return made_up


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def fake_torch(monkeypatch, **cuda) -> None:
    """Put a torch into place that claims a CUDA device, or a Mac's GPU, or neither."""
    properties = SimpleNamespace(name="Tesla T4", total_memory=15.8e9, major=7, minor=5)
    torch = SimpleNamespace(
        __version__="2.13.0",
        cuda=SimpleNamespace(
            is_available=lambda: cuda.get("available", False),
            device_count=lambda: cuda.get("count", 1),
            get_device_properties=lambda index: properties,
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: cuda.get("mps", False))),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))
    return {finding.name: finding for finding in findings}


def test_this_machine_is_examined_and_nothing_is_written(tmp_path, monkeypatch, no_torch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HOME", raising=False)
    found = by_name(examine())
    assert {"Python", "memory", "free disk here", "CPU", "cores", "torch", "base", "train"} <= set(found)
    assert found["base"].state == "ok"
    assert not list(tmp_path.iterdir())
    for finding in found.values():
        assert finding.value
        assert bool(finding.advice) == (finding.state != "ok")


def test_real_torch_is_named():
    torch = pytest.importorskip("torch")
    found = by_name(examine())
    assert torch.__version__ in found["device"].value


# --- devices ------------------------------------------------------------------------------------------------


def test_without_torch_the_command_to_install_it_is_named(no_torch):
    found = by_name(examine())
    assert found["torch"].state == "missing"
    assert "pip install 'stentor[train]'" in found["torch"].advice
    assert "device" not in found
    assert "at least" in found["matrix products"].advice


def test_broken_torch_is_said_in_one_line(monkeypatch):
    def broken(name):
        raise OSError("libcudart.so.12: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    found = by_name(examine())
    assert found["torch"].value == "cannot be imported (libcudart.so.12: cannot open shared object file)"


def test_cuda_device(monkeypatch):
    fake_torch(monkeypatch, available=True)
    found = by_name(examine())
    assert found["device"] == Finding("compute", "device", "Tesla T4, 16 GB, torch 2.13.0, float32, no bfloat16")
    assert "matrix products" not in found


def test_several_newer_cuda_devices(monkeypatch):
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=150e9, major=9, minor=0)
    fake_torch(monkeypatch, available=True, count=8)
    monkeypatch.setattr(sys.modules["torch"].cuda, "get_device_properties", lambda index: properties)
    assert by_name(examine())["device"].value == "8 x NVIDIA H200, 150 GB, torch 2.13.0, bfloat16"


def test_apple_gpu(monkeypatch):
    fake_torch(monkeypatch, mps=True)
    assert "Apple GPU" in by_name(examine())["device"].value


def test_gpu_that_this_torch_cannot_use(monkeypatch):
    fake_torch(monkeypatch)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor, "matmul_flops_per_second", lambda precision: 1e11)
    found = by_name(examine())["device"]
    assert found.state == "slow"
    assert "build for CUDA" in found.advice


@pytest.mark.parametrize(
    ("rate", "length"), [(1e11, "at least 2.0 days"), (1e12, "at least 5 hours"), (1e9, "at least 204.9 days")]
)
def test_training_time_is_arithmetic(monkeypatch, no_torch, rate, length):
    monkeypatch.setattr(doctor, "matmul_flops_per_second", lambda precision: rate)
    finding = by_name(examine())["matrix products"]
    assert length.replace("204.9", f"{6 * 12_294_400 * 240_001_024 / 1e9 / 86400:.1f}") in finding.advice
    assert "an estimate" in finding.advice


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measured_rate_is_plausible(precision):
    assert 1e7 < doctor.matmul_flops_per_second(precision, seconds=0.01) < 1e15


def test_measured_rate_without_torch(no_torch):
    assert 1e7 < doctor.matmul_flops_per_second("bfloat16", seconds=0.0) < 1e15


# --- CPU ----------------------------------------------------------------------------------------------------


def test_cpu_of_linux(files, no_torch):
    files["/proc/cpuinfo"] = CPUINFO
    found = by_name(examine())
    assert found["CPU"].value == "AMD EPYC 9R14"
    assert found["CPU features"].value == "avx2 f16c avx512f avx512_vnni avx512_bf16"
    assert found["precision"].value == "bfloat16"


def test_cpu_of_arm_linux(files):
    files["/proc/cpuinfo"] = ARM_CPUINFO
    assert doctor.cpu_features() == ["asimddp", "i8mm", "bf16", "sve"]


def test_old_cpu_trains_in_float32(files, no_torch):
    files["/proc/cpuinfo"] = CPUINFO.replace(" avx2 f16c avx512f avx512_vnni avx512_bf16", "")
    found = by_name(examine())
    assert found["CPU features"].value == "none that matter"
    assert found["precision"].value == "float32"
    assert found["precision"].state == "slow"


def test_cpu_of_macos(files, monkeypatch):
    answers = {
        "machdep.cpu.brand_string": "machdep.cpu.brand_string: Apple M3\n",
        "hw.optional": "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\n",
    }
    monkeypatch.setattr(doctor, "_sysctl", answers.get)
    assert doctor.cpu_model() == "Apple M3"
    assert doctor.cpu_features() == ["asimddp", "bf16"]


def test_unknown_system_is_unknown_not_guessed(files, monkeypatch, no_torch):
    monkeypatch.setattr(doctor, "_sysctl", lambda key: "")
    monkeypatch.setattr(doctor.platform, "processor", lambda: "")
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError), raising=False)
    found = by_name(examine())
    for name in ("CPU", "CPU features", "precision", "memory"):
        assert found[name] == Finding("machine" if name == "memory" else "compute", name, "unknown")


def test_sysctl_is_asked_on_macos_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert doctor._sysctl("hw.optional") == ""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="hw.x: 1\n"))
    assert doctor._sysctl("hw") == "hw.x: 1\n"

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(doctor.subprocess, "run", missing)
    assert doctor._sysctl("hw") == ""


def test_few_cores_and_idle_ones_are_said(monkeypatch, no_torch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = by_name(examine())
    assert found["cores"].state == found["OMP_NUM_THREADS"].state == "slow"
    monkeypatch.setattr(doctor, "usable_cores", lambda: 8.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    found = by_name(examine())
    assert found["cores"].state == "ok"
    assert "OMP_NUM_THREADS" not in found


# --- memory, disk, caches -----------------------------------------------------------------------------------


def test_memory_of_a_container(files, no_torch):
    whole = doctor.memory_bytes()
    assert whole is None or whole > 2e8
    files["/sys/fs/cgroup/memory.max"] = "1000000000\n"
    finding = by_name(examine())["memory"]
    assert (finding.value, finding.state) == ("1.0 GB", "slow")
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert doctor.memory_bytes() == whole


def test_little_disk_is_said(tmp_path, monkeypatch, no_torch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    finding = by_name(examine(tmp_path))["free disk here"]
    assert (finding.value, finding.state) == ("1.0 GB", "slow")


def test_cache_that_cannot_be_written(tmp_path, monkeypatch, no_torch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "below"))
    finding = by_name(examine())["cache (HF_HOME)"]
    assert finding.state == "slow"
    assert "not writable" in finding.value
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    assert by_name(examine())["cache (HF_HOME)"].state == "ok"
    assert not (tmp_path / "not").exists()


# --- packages -----------------------------------------------------------------------------------------------


def test_requirements_are_sorted_into_extras():
    requirements = [
        "numpy>=2.0",
        "torch>=2.11; extra == 'train'",
        'datasets>=4.0 ; extra == "hf"',
        "stentor[train,hf]; extra == 'export'",
        "gguf>=0.19; extra == 'export'",
        "pyright[nodejs]>=1.1; extra == 'dev'",
        "typer",
        "torch>=2.11; extra == 'all'",
    ]
    assert requirements_by_extra(requirements) == {
        "": {"numpy": "2.0", "typer": ""},
        "train": {"torch": "2.11"},
        "hf": {"datasets": "4.0"},
        "export": {"gguf": "0.19"},
    }


@given(st.lists(st.text()))
def test_any_requirements_are_survived(requirements):
    requirements_by_extra(requirements)


def test_missing_and_old_packages_are_named_with_the_command(monkeypatch):
    required = ["numpy>=2.0", "pyarrow>=18; extra == 'data'", "ftfy>=6.3; extra == 'data'", "rich; extra == 'x'"]
    installed = {"numpy": "2.4.6", "pyarrow": "9.0.1", "rich": "13.0"}
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: required)
    monkeypatch.setattr(doctor, "_installed_version", installed.get)
    base, data, other = doctor._packages()
    assert base == Finding("packages", "base", "numpy 2.4.6")
    assert data.value == "pyarrow 9.0.1"
    assert (data.state, data.advice) == ("missing", "pyarrow>=18, ftfy>=6.3 missing: pip install 'stentor[data]'")
    assert other.state == "ok"


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("2026.10.11549", (2026, 10, 11549)), ("", ()), ("x", ())]
)
def test_versions_are_compared_as_numbers(version, numbers):
    assert doctor._as_numbers(version) == numbers


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def app():
    app = typer.Typer()
    app.command()(command)
    return app


def test_answer_for_people_is_plain_where_it_is_not_a_terminal(app, no_torch):
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    for text in ("machine\n", "compute\n", "packages\n", "what will be slow here\n", "what is missing here\n"):
        assert text in result.stdout
    assert "  torch: training and evaluation need it: pip install 'stentor[train]'" in result.stdout
    assert result.stderr == "looking at this machine ...\n"


def test_json_is_one_object(app, no_torch):
    result = CliRunner().invoke(app, ["--json"])
    findings = json.loads(result.stdout)["findings"]
    assert {"topic", "name", "value", "state", "advice"} == set(findings[0])
    assert "torch" in {finding["name"] for finding in findings}


def test_importing_the_doctor_needs_no_torch_and_no_extras():
    program = (
        "import sys, stentor.doctor, stentor.cli.doctor\n"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"


def test_reading_system_files_never_fails(tmp_path):
    assert doctor._read(tmp_path / "none") == doctor._read(tmp_path) == ""
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert doctor._read(Path(tmp_path / "bytes")) == "\ufffd"
