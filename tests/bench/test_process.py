"""A process for each measurement: what it says is read, and whatever ends it becomes one sentence."""

from __future__ import annotations

import json

import pytest

from stentor.bench import process
from stentor.bench.process import measure_once
from stentor.bench.setting import Setting
from stentor.errors import UserError

OURS = Setting(engine="stentor", dtype="int8", cache_dtype="int8", num_threads=2)
RESULT = {"prefill_seconds": {"4": 0.5}, "decode_seconds": {"4": 0.25}, "peak_bytes": 7, "version": "9"}


@pytest.fixture
def child(monkeypatch):
    """Return a function that puts a little program in place of the child."""
    return lambda code: monkeypatch.setattr(process, "CHILD", ("-c", code))


def test_what_it_says_is_read(child, request_of):
    child(f"input_ = __import__('sys').stdin.read(); print('{{}}'); print('''{json.dumps(RESULT)}''')")
    ticks = iter([10.0, 12.5])
    measured = measure_once(request_of(OURS), clock=lambda: next(ticks))
    assert (measured.prefill_seconds, measured.decode_seconds) == ({4: 0.5}, {4: 0.25})
    assert (measured.cold_start_seconds, measured.peak_bytes, measured.version) == (2.5, 7, "9")


def test_it_knows_the_request_its_threads_and_that_there_is_no_network(child, request_of):
    child(
        "import json, os, sys\n"
        "request = json.loads(sys.stdin.read())\n"
        "print('{}')\n"
        "version = [request['setting']['num_threads'], os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE']]\n"
        f"print(json.dumps({RESULT!r} | {{'version': version}}))"
    )
    assert measure_once(request_of(OURS)).version == [2, "2", "1"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such format')", ["status 1", "no such format"]),
        ("import os; os.abort()", ["status -6", "it said nothing"]),
        ("print('{}')", ["status 0"]),
        ("print('{}'); raise ValueError('halfway')", ["status 1", "ValueError: halfway"]),
    ],
    ids=["refuses", "crashes", "stops", "stops after its first token"],
)
def test_an_end_without_a_result_is_one_sentence(child, request_of, code, words):
    child(code)
    with pytest.raises(UserError) as refused:
        measure_once(request_of(OURS))
    assert all(word in refused.value.message for word in words)


def test_one_that_hangs_is_ended(child, request_of, monkeypatch):
    monkeypatch.setattr(process, "TIMEOUT_S", 0.2)
    child("import time; time.sleep(100)")
    with pytest.raises(UserError, match="status -9"):
        measure_once(request_of(OURS))


def test_our_own_engine_in_a_real_child(request_of):
    measured = measure_once(request_of(OURS))
    assert set(measured.prefill_seconds) == {4, 9}
    assert set(measured.decode_seconds) == {4, 12}
    assert min(*measured.prefill_seconds.values(), *measured.decode_seconds.values()) > 0
    assert measured.cold_start_seconds > 0.05
    assert measured.peak_bytes is None or 1e6 < measured.peak_bytes < 2e9


def test_a_model_that_is_not_there(request_of, tmp_path):
    with pytest.raises(UserError, match="there is no model"):
        measure_once(request_of(OURS, path=tmp_path / "nothing"))


@pytest.mark.external
@pytest.mark.parametrize("attention", ["flash", "plain"])
def test_llama_cpp_in_a_real_child(request_of, tiny_weights, attention):
    from stentor.bench.forms import prepared

    with prepared(tiny_weights, ["xllamacpp"]) as forms:
        setting = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=attention)
        measured = measure_once(request_of(setting, path=forms.paths["xllamacpp"]))
    assert min(*measured.prefill_seconds.values(), *measured.decode_seconds.values()) > 0
    assert "CPU" in measured.version


@pytest.mark.external
def test_transformers_in_a_real_child(request_of):
    setting = Setting(engine="transformers", dtype="float32", cache_dtype="float32", attention="sdpa")
    assert min(measure_once(request_of(setting)).decode_seconds.values()) > 0
