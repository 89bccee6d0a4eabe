"""`stentor bench`: what is asked for is measured, printed and drawn; a real run has real numbers."""

from __future__ import annotations

import pytest

from stentor.bench.measure import Bench, Result
from stentor.bench.setting import ENGINES, Measurement, Setting, Work


@pytest.fixture
def called(monkeypatch):
    """Stand in for the measuring and note what is asked of it."""
    calls = []

    def run_bench(model, settings, work, *, num_rounds, say):
        calls.append({"settings": settings, "work": work, "num_rounds": num_rounds})
        say("round 1")
        setting = Setting(engine="stentor", dtype="int8", cache_dtype="int8")
        measured = Measurement(
            cold_start_seconds=0.5, prefill_seconds={4: 0.001}, decode_seconds={4: 0.001}, peak_bytes=9, version="1"
        )
        return Bench([Result(setting, measured, 1e9, 400_000, {4: 100_000})], {"transformers": "not installed: torch"})

    monkeypatch.setattr("stentor.bench.measure.run_bench", run_bench)
    return calls


def test_by_default_all_engines_and_all_counts_of_threads(cli, world, called, monkeypatch):
    monkeypatch.setattr("stentor.doctor.usable_cores", lambda: 4.0)
    outcome = cli("bench", world.run)
    assert outcome.code == 0
    (call,) = called
    assert {setting.engine for setting in call["settings"]} == set(ENGINES)
    assert {setting.num_threads for setting in call["settings"]} == {1, 2, 4}
    assert (call["work"], call["num_rounds"]) == (Work(), 3)
    assert "stentor: int8, cache int8" in outcome.out
    assert "not measured: transformers: not installed: torch" in outcome.out
    assert "round 1" in outcome.err


def test_less_can_be_asked_for(cli, world, called):
    assert cli("bench", world.run, "--quick", "--engine", "stentor", "--threads", "2", "--threads", "1").code == 0
    (call,) = called
    assert [(setting.engine, setting.num_threads) for setting in call["settings"]] == [("stentor", 1), ("stentor", 2)]
    assert call["num_rounds"] == 1
    assert max(call["work"].prompt_lengths) < 1000


def test_json_names_the_machine(cli, world, called):
    value = cli("bench", world.run, "--json").value
    assert {"CPU", "CPU features", "cores", "system", "versions"} <= set(value["machine"])
    assert value["results"][0]["decode_ms"] == {"4": 1.0}
    assert value["results"][0]["share_of_floor"] == {"4": 0.5}
    assert (value["model"], value["not_measured"]) == (str(world.run), {"transformers": "not installed: torch"})
    assert value["num_parameters"] > 0


def test_a_picture(cli, world, called, tmp_path):
    outcome = cli("bench", world.run, "--plot", tmp_path / "bench.svg")
    assert f"wrote {tmp_path / 'bench.svg'}" in outcome.err
    assert b"stentor: int8" in (tmp_path / "bench.svg").read_bytes()


def test_a_wrong_name_is_refused_before_the_work(cli, world, called, tmp_path):
    cli("bench", world.run, "--plot", tmp_path / "bench.pdf").fails(3, "no name for a picture")
    cli("bench", world.run, "--engine", "lama_cpp").fails(2, "no engine 'lama_cpp'", "did you mean 'llama_cpp'?")
    cli("bench", tmp_path / "nothing").fails(3, "there is no model")
    assert called == []
    assert cli("bench", world.run, "--threads", "0").code == 2


def test_a_real_run(cli, world):
    value = cli("bench", world.run, "--quick", "--engine", "stentor", "--threads", "1", "--json").value
    (result,) = value["results"]
    assert set(result["decode_ms"]) == set(result["floor_ms"]) == {"16", "23"}
    assert min(*result["decode_ms"].values(), *result["prefill_tokens_per_second"].values()) > 0
    assert result["cold_start_seconds"] > 0.05
    assert value["not_measured"] == {}
