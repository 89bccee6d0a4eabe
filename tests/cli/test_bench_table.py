"""The table shows every number where its heading says."""

from __future__ import annotations

from stentor.bench.measure import Bench, Result
from stentor.bench.setting import FLASH, Measurement, Setting
from stentor.cli.bench_table import bench_table

OURS = Setting(engine="stentor", dtype="int8", cache_dtype="int8", num_threads=2)
LLAMA = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=FLASH)
MACHINE = {"CPU": "A fast one", "cores": "2 of 2 usable"}


def result(setting: Setting, peak_bytes: int | None = 80_000_000) -> Result:
    measured = Measurement(
        cold_start_seconds=0.517,
        prefill_seconds={16: 0.001, 1000: 0.05},
        decode_seconds={16: 0.0002, 900: 0.0005},
        peak_bytes=peak_bytes,
        version="1",
    )
    return Result(setting, measured, 1e11, 10_000_000, {16: 2_000_000, 900: 20_000_000})


def test_a_line_for_each_setting():
    lines = bench_table(Bench([result(OURS), result(LLAMA, None)], {}), MACHINE).splitlines()
    assert lines[:3] == ["CPU    A fast one", "cores  2 of 2 usable", ""]
    above, below, ours, llama = lines[3:7]
    assert above.split() == ["prompt", "token", "floor"]
    assert below.split() == ["threads", "16", "1,000", "16", "900", "16", "900", "memory", "start"]
    assert ours == (
        "stentor: int8, cache int8                                2  16,000  20,000  0.200  0.500    60%  60%  "
        "80.0 MB  0.52 s"
    )
    assert llama.split()[-8:] == ["16,000", "20,000", "0.200", "0.500", "60%", "60%", "-", "0.52", "s"][-8:]
    assert llama.startswith("llama.cpp (xllamacpp): q8_0, cache float16, flash        1")
    assert "not measured" not in "".join(lines)


def test_what_is_missing_is_named():
    text = bench_table(Bench([result(OURS)], {"transformers": "not installed: torch", "x": "it crashed"}), MACHINE)
    assert text.endswith("\n\nnot measured: transformers: not installed: torch\nnot measured: x: it crashed")


def test_nothing_at_all():
    text = bench_table(Bench([], {"transformers": "not installed: torch"}), MACHINE)
    assert text.splitlines()[-1] == "not measured: transformers: not installed: torch"
    assert "prompt" not in text
