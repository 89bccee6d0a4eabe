"""The folder of a run's report: a table and two pictures, or the table alone where nothing can be drawn."""

from __future__ import annotations

import sys

import pytest

from stentor.errors import MissingDependencyError
from stentor.report.folder import write_report
from stentor.report.results import results_table

NAMES = ["table.md", "curves.svg", "curves.png", "dynamics.svg", "dynamics.png"]


@pytest.mark.slow
def test_table_and_pictures_are_written(log, tmp_path):
    paths = write_report(log, tmp_path / "run")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"run/report/{name}" for name in NAMES]
    assert all(path.is_file() for path in paths)
    assert paths[0].read_text(encoding="ascii") == results_table(log)


@pytest.mark.slow
def test_a_report_is_written_again_over_the_last_one(log, tmp_path):
    first = [path.read_bytes() for path in write_report(log, tmp_path)]
    assert [path.read_bytes() for path in write_report(log, tmp_path)] == first
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(NAMES)


def test_without_matplotlib_the_table_is_there_all_the_same(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"stentor\[report\]"):
        write_report(log, tmp_path)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["table.md"]
