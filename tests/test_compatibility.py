"""The table of what opens our files: rows are joined, never typed, and the page shows what was recorded."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
OPENING = {
    "file": "gguf q8_0",
    "consumer": "llama.cpp",
    "version": "1",
    "command": "open FILE",
    "agrees": ["token ids", "greedy text"],
    "difference": 1e-3,
    "measure": "logits",
}


@pytest.fixture
def compatibility(monkeypatch):
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not part of this copy")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("compatibility")
    for name in ("compatibility", "record"):
        sys.modules.pop(name, None)


def test_an_opening_is_noted_only_where_it_is_asked_for(record_opened, tmp_path, monkeypatch, request):
    monkeypatch.delenv("STENTOR_COMPATIBILITY", raising=False)
    record_opened(model="llama", **OPENING)
    monkeypatch.setenv("STENTOR_COMPATIBILITY", str(tmp_path))
    record_opened(model="llama", **OPENING)
    record_opened(model="llama", **OPENING)
    noted = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert noted == [{**OPENING, "model": "llama", "test": request.node.nodeid}]


def test_one_row_has_the_largest_difference_of_all_models_and_what_all_agree_in(compatibility):
    openings = [
        {**OPENING, "model": "b", "test": "t.py::x[b]"},
        {**OPENING, "model": "a", "test": "t.py::x[a]", "difference": 2e-3, "agrees": ["token ids"]},
        {**OPENING, "model": "a", "test": "t.py::y", "version": "0", "difference": None, "measure": "refused: no"},
    ]
    first, second = compatibility.merged(openings)
    assert (first["version"], first["difference"], first["models"]) == ("0", None, ["a"])
    assert (second["difference"], second["agrees"], second["models"]) == (2e-3, ["token ids"], ["a", "b"])
    lines = compatibility.table([first, second], taken="Taken now.").splitlines()
    assert lines[2] == "| gguf q8_0 | llama.cpp | 0 | refused: no | token ids, greedy text | a |"
    assert lines[3] == "| gguf q8_0 | llama.cpp | 1 | 0.002 (logits) | token ids | a; b |"
    assert {line.count("|") for line in lines[:4]} == {7}
    assert lines[-1] == "- `open FILE`: `t.py::x`, `t.py::y`"


def test_the_page_shows_what_was_recorded(compatibility):
    page = compatibility.PAGE.read_text(encoding="utf-8")
    assert compatibility.with_table(page) == page


def test_a_test_that_fails_or_is_skipped_writes_nothing(compatibility, tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.external\ndef test_x():\n    pytest.skip('no')\n"
    )
    monkeypatch.setattr(compatibility, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="failed or was skipped"):
        compatibility.run_tests(["-c", str(BENCHMARKS.parent / "pyproject.toml"), str(tmp_path)], tmp_path)
