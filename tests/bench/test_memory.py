"""The most memory a process has had: what it takes counts, and stays counted when it is given back."""

import subprocess
import sys

import pytest

from stentor.bench import memory
from stentor.bench.memory import peak_bytes


@pytest.mark.skipif(not memory._STATUS.exists(), reason="Linux alone tells the peak of this process")
def test_the_peak_rises_by_what_is_taken_and_stays_and_is_not_the_parents():
    code = (
        "from stentor.bench.memory import peak_bytes\n"
        "before = peak_bytes()\n"
        "taken = bytearray(50_000_000); taken[::4096] = b'1' * len(taken[::4096])\n"
        "risen = peak_bytes(); del taken\n"
        "print(before, risen, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, risen, after = map(int, done.stdout.split())
    assert before < 40_000_000  # this process has far more
    assert before + 45_000_000 < risen < before + 80_000_000
    assert abs(after - risen) < 2_000_000


def test_where_there_is_no_such_file_the_system_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    found = peak_bytes()
    assert found is not None
    assert found > 1_000_000


def test_an_apple_counts_in_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    elsewhere = peak_bytes()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert elsewhere is not None
    assert peak_bytes() == pytest.approx(elsewhere / 1024, rel=0.2)


def test_windows_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_bytes() is None
