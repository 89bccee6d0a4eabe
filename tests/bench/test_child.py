"""The child says when its first token is there, then everything else."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from stentor.bench import child
from stentor.bench.setting import Setting, Work

SETTING = Setting(engine="stentor", dtype="int8", cache_dtype="int8")


class Engine:
    version = "9"

    def __init__(self, out) -> None:
        self._out = out
        self.lines_before: list[int] = []

    def prefill(self, token_ids):
        self.lines_before.append(self._out.getvalue().count("\n"))
        return 0.5 * len(token_ids)

    def decode(self, token_ids, num_new_tokens):
        return 0.25


@pytest.fixture
def answered(monkeypatch, request_of):
    """Return a function that answers a request with a fake engine, and gives the engine and the lines."""

    work = Work(prompt_lengths=(4, 9), positions=(4,), repeats=1)

    def answer(peaks):
        out = io.StringIO()
        engine = Engine(out)
        monkeypatch.setattr(child, "peak_bytes", iter(peaks).__next__)
        monkeypatch.setattr(child.importlib, "import_module", lambda name: module if name == wanted else None)
        module = SimpleNamespace(open_engine=lambda request: engine)
        wanted = "stentor.bench.in_stentor"
        child.answer(request_of(SETTING, work), out)
        return engine, [json.loads(line) for line in out.getvalue().splitlines()]

    return answer


def test_two_lines(answered):
    engine, (first, result) = answered([1000, 5000])
    assert first == {}
    assert result == {
        "prefill_seconds": {"4": 2.0, "9": 4.5},
        "decode_seconds": {"4": 0.25},
        "peak_bytes": 4000,
        "version": "9",
    }
    assert engine.lines_before == [0, 1, 1, 1, 1]  # the first token is there before all else begins


def test_memory_that_is_not_known(answered):
    assert answered([None, None])[1][1]["peak_bytes"] is None
