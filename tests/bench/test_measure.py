"""Engines take turns, medians count, and a peer that fails costs nobody else a number."""

from __future__ import annotations

import pytest

from stentor.bench import forms, measure
from stentor.bench.measure import Bench, Result, median_of, run_bench, settings_of, thread_counts, token_ids
from stentor.bench.setting import ENGINES, FLASH, PLAIN, Setting, Work
from stentor.errors import UserError
from stentor.runtime.dtypes import DTYPES

WORK = Work(prompt_lengths=(4, 9), positions=(4, 12), num_new_tokens=3, repeats=2)
INT8 = Setting(engine="stentor", dtype="int8", cache_dtype="int8")
FLOAT32 = Setting(engine="stentor", dtype="float32", cache_dtype="float32", num_threads=2)
LLAMA = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=FLASH)


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))]
)
def test_thread_counts(cores, counts):
    assert thread_counts(cores) == counts


def test_settings():
    ours = settings_of("stentor", (1, 2))
    assert {(setting.dtype, setting.cache_dtype) for setting in ours} >= {("float32", "float32"), ("int8", "int8")}
    assert len(ours) == len(DTYPES) * 2 * 2
    assert {setting.num_threads for setting in settings_of("stentor", (1, 8, 64))} == {1, 4}
    assert [(s.attention, s.num_threads) for s in settings_of("llama_cpp", (1, 2))] == [
        (FLASH, 1), (FLASH, 2), (PLAIN, 1), (PLAIN, 2),
    ]  # fmt: skip
    assert {setting.attention for setting in settings_of("transformers", (1,))} == {"sdpa", "eager"}
    assert [setting.dtype for setting in settings_of("onnxruntime", (1,))] == ["int8", "float32"]


@pytest.mark.parametrize("engine", ENGINES)
def test_quick_settings_are_one_for_each_count(engine):
    quick = settings_of(engine, (1, 2), quick=True)
    assert [setting.num_threads for setting in quick] == [1, 2]
    assert set(quick) <= set(settings_of(engine, (1, 2)))


def test_rounds_take_turns(tiny_weights, no_processes):
    said = []
    bench = run_bench(tiny_weights, [INT8, FLOAT32, LLAMA], WORK, num_rounds=3, say=said.append)
    compiling, *rest = no_processes
    assert (compiling.setting, compiling.work.num_new_tokens) == (FLOAT32, 1)  # most threads: all kernels are compiled
    assert [request.setting for request in rest] == [INT8, FLOAT32, LLAMA] * 3
    assert all(request.work == WORK for request in rest)
    assert all(len(request.token_ids) == WORK.num_tokens for request in rest)
    assert [result.setting for result in bench.results] == [INT8, FLOAT32, LLAMA]
    assert "round 2 of 3" in said[4]


def test_medians_of_the_rounds(tiny_weights, no_processes):
    (result,) = run_bench(tiny_weights, [INT8], WORK, num_rounds=3).results
    assert result.measured.decode_seconds[4] == pytest.approx(1.3e-3)  # 1.2, 1.3 and 1.4 after one for compiling


def test_the_context_bounds_the_work(tiny_weights, no_processes):
    (result,) = run_bench(tiny_weights, [INT8], Work(), num_rounds=1).results
    assert set(result.measured.prefill_seconds) == {16, 31}
    assert max(result.cache_bytes) < 32


def test_what_is_not_installed_is_named(tiny_weights, no_processes, monkeypatch):
    monkeypatch.setitem(forms._PACKAGES, "xllamacpp", ("no_such_package",))
    bench = run_bench(tiny_weights, [INT8, LLAMA], WORK, num_rounds=1)
    assert [result.setting for result in bench.results] == [INT8]
    assert bench.not_measured == {ENGINES["xllamacpp"]: "not installed: no_such_package"}


def failing(monkeypatch, engine):
    """Let an engine fail in the second round; returns the settings that were asked for."""
    answer, asked = measure.measure_once, []

    def measure_once(request):
        asked.append(request.setting)
        if request.setting.engine == engine and asked.count(request.setting) == 2:
            raise UserError("it crashed")
        return answer(request)

    monkeypatch.setattr(measure, "measure_once", measure_once)
    return asked


def test_a_peer_that_fails_is_left_out_and_named(tiny_weights, no_processes, monkeypatch):
    asked = failing(monkeypatch, "xllamacpp")
    bench = run_bench(tiny_weights, [LLAMA, INT8], WORK, num_rounds=3)
    assert asked.count(LLAMA) == 2
    assert [result.setting for result in bench.results] == [INT8]
    assert bench.not_measured == {f"{LLAMA.name}, threads: 1": "it crashed"}


def test_one_number_of_threads_may_fail_alone(tiny_weights, no_processes, monkeypatch):
    more = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=FLASH, num_threads=2)
    answer = measure.measure_once

    def measure_once(request):
        if request.setting == more:
            raise UserError("it crashed")
        return answer(request)

    monkeypatch.setattr(measure, "measure_once", measure_once)
    assert [result.setting for result in run_bench(tiny_weights, [more, LLAMA], WORK).results] == [LLAMA]


def test_our_own_failure_is_an_error(tiny_weights, no_processes, monkeypatch):
    failing(monkeypatch, "stentor")
    with pytest.raises(UserError, match="it crashed"):
        run_bench(tiny_weights, [INT8], WORK, num_rounds=3)


def test_the_floor_is_bytes_over_the_rate(made_up):
    result = Result(INT8, made_up(), 2e9, 1_000_000, {4: 200_000, 12: 600_000})
    assert result.floor_seconds(4) == pytest.approx(0.6e-3)
    assert result.share_of_floor(12) == pytest.approx(0.4)


def test_json_has_every_number(made_up):
    result = Result(INT8, made_up(), 2e9, 1_000_000, {4: 200_000, 12: 600_000})
    (value,) = Bench([result], {"a peer": "not installed"}).to_dict()["results"]
    assert value["prefill_tokens_per_second"] == {4: pytest.approx(4000), 9: pytest.approx(4500)}
    assert value["decode_ms"] == {4: pytest.approx(1), 12: pytest.approx(2)}
    assert value["floor_ms"] == {4: pytest.approx(0.6), 12: pytest.approx(0.8)}
    assert (value["engine"], value["num_threads"], value["peak_bytes"], value["version"]) == (
        "stentor", 1, 80_000_000, "1.2.3",
    )  # fmt: skip


def test_medians(made_up):
    found = median_of([made_up(1.0), made_up(9.0, peak_bytes=None), made_up(2.0, cold_start_seconds=0.7)])
    assert found.decode_seconds == {4: pytest.approx(2e-3), 12: pytest.approx(4e-3)}
    assert (found.cold_start_seconds, found.peak_bytes) == (0.5, 80_000_000)
    assert median_of([made_up(peak_bytes=None)]).peak_bytes is None


def test_ids_are_the_same_each_time_and_of_the_vocabulary(tiny_weights):
    ids = token_ids(tiny_weights, 500)
    assert ids == token_ids(tiny_weights, 500)
    assert token_ids(tiny_weights, 5) == ids[:5]
    assert tiny_weights.tokenizer is not None
    assert 0 <= min(ids) < max(ids) < tiny_weights.tokenizer.vocab_size
