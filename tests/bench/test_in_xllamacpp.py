"""llama.cpp's server is asked for the fastest it has, and what it says of itself is believed only where it fits."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from stentor.bench.in_xllamacpp import ServerEngine, open_engine
from stentor.bench.setting import FLASH, PLAIN, Setting
from stentor.errors import UserError

SETTING = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=FLASH, num_threads=2)


class Answers:
    """A connection that answers like llama.cpp: 2 ms for each token read, 3 ms for each token after the first."""

    def __init__(self, address: str) -> None:
        assert address == "127.0.0.1:1234"
        self.bodies: list[dict] = []

    def request(self, method, path, body, headers):
        assert (method, path) == ("POST", "/completion")
        self.bodies.append(json.loads(body))

    def getresponse(self):
        body = self.bodies[-1]
        timings = {"prompt_n": len(body["prompt"]), "prompt_ms": 2.0 * len(body["prompt"])}
        timings |= {"predicted_n": body["n_predict"], "predicted_ms": 3.0 * (body["n_predict"] - 1)}
        return SimpleNamespace(read=lambda: json.dumps({"timings": timings}).encode())


@pytest.fixture
def llama(monkeypatch):
    """Stand in for the package; returns it, with the parameters of the server it made."""
    module = SimpleNamespace(__version__="2026.1", get_system_info=lambda: "CPU : AVX2 = 1 | ")
    module.CommonParams = lambda: SimpleNamespace(
        model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace()
    )
    module.ggml_type = SimpleNamespace(GGML_TYPE_F16=1, GGML_TYPE_Q8_0=8)
    module.llama_flash_attn_type = SimpleNamespace(
        LLAMA_FLASH_ATTN_TYPE_ENABLED="on", LLAMA_FLASH_ATTN_TYPE_DISABLED="off"
    )

    def serve(parameters):
        module.parameters = parameters
        return SimpleNamespace(listening_address="http://127.0.0.1:1234")

    module.Server = serve
    monkeypatch.setattr("http.client.HTTPConnection", Answers)
    monkeypatch.setitem(sys.modules, "xllamacpp", module)
    return module


def test_its_own_clock_counts(llama, request_of):
    engine = open_engine(request_of(SETTING))
    assert engine.prefill(range(10)) == pytest.approx(0.020)
    assert engine.decode(range(10), 8) == pytest.approx(0.003)
    assert engine.version == "2026.1; CPU : AVX2 = 1"


def test_nothing_slows_it(llama, request_of):
    engine = open_engine(request_of(SETTING))
    assert isinstance(engine, ServerEngine)
    engine.prefill([4, 5])
    connection: Any = engine._connection
    (body,) = connection.bodies
    assert body == {
        "prompt": [4, 5],
        "n_predict": 1,
        "temperature": 0,
        "samplers": ["top_k"],
        "top_k": 1,
        "ignore_eos": True,
        "cache_prompt": False,
    }


@pytest.mark.parametrize(("attention", "state"), [(FLASH, "on"), (PLAIN, "off")])
@pytest.mark.parametrize(("cache_dtype", "number"), [("float16", 1), ("q8_0", 8)])
def test_settings_arrive(llama, request_of, attention, state, cache_dtype, number):
    request = request_of(
        Setting(engine="xllamacpp", dtype="q8_0", cache_dtype=cache_dtype, attention=attention, num_threads=3)
    )
    open_engine(request)
    given = llama.parameters
    assert (given.model.path, given.flash_attn_type) == (request.path, state)
    assert (given.cache_type_k, given.cache_type_v) == (number, number)
    assert (given.cpuparams.n_threads, given.cpuparams_batch.n_threads, given.n_parallel) == (3, 3, 1)
    assert given.n_ctx > request.work.num_tokens


def test_other_work_than_was_asked_for_is_no_measurement(llama, request_of, monkeypatch):
    engine = open_engine(request_of(SETTING))
    wrong = json.dumps({"timings": {"prompt_n": 1, "predicted_n": 1}}).encode()
    monkeypatch.setattr(Answers, "getresponse", lambda self: SimpleNamespace(read=lambda: wrong))
    with pytest.raises(UserError, match="something else"):
        engine.prefill([1, 2, 3])


def test_a_refusal_is_shown(llama, request_of, monkeypatch):
    engine = open_engine(request_of(SETTING))
    refusal = json.dumps({"error": {"message": "the context is too small"}}).encode()
    monkeypatch.setattr(Answers, "getresponse", lambda self: SimpleNamespace(read=lambda: refusal))
    with pytest.raises(UserError, match="the context is too small"):
        engine.prefill([1, 2, 3])
