"""Logs are read whatever a crash did to them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.report.run_log import RunLog, read_log, series


def train(step: int, loss_nats: float = 5.0) -> dict:
    return {"kind": "train", "step": step, "tokens_seen": step * 100, "loss_nats": loss_nats, "lr": 1e-3}


def evaluation(step: int, loss_nats: float) -> dict:
    numbers = {"loss_nats": loss_nats, "perplexity": math.exp(loss_nats), "bits_per_byte": loss_nats / 2}
    return {"kind": "evaluation", "step": step, "tokens_seen": step * 100, **numbers}


def write_log(path: Path, records: list[dict], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records) + tail)
    return path


def test_records_are_sorted_into_kinds(tmp_path):
    records = [{"kind": "start", "step": 0}, train(1), train(2), evaluation(2, 4.0), {"kind": "note", "message": "x"}]
    log = read_log(write_log(tmp_path / "log.jsonl", records))
    assert log.train == (train(1), train(2))
    assert log.evaluations == (evaluation(2, 4.0),)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_last_line_cut_short_is_passed_over(tmp_path, cut):
    tail = json.dumps(train(3)).encode()[:cut]
    assert read_log(write_log(tmp_path / "log.jsonl", [train(1), train(2)], tail)).train == (train(1), train(2))


def test_line_cut_short_in_the_middle_costs_nothing_else(tmp_path):
    path = write_log(tmp_path / "log.jsonl", [train(1)], b'{"kind": "tr\n' + json.dumps(train(2)).encode() + b"\n")
    assert read_log(path).train == (train(1), train(2))


def test_steps_repeated_after_a_crash_are_there_once_in_order(tmp_path):
    records = [train(1), train(2, 9.0), train(3, 9.0), train(2, 4.0), train(3, 3.0), train(4)]
    log = read_log(write_log(tmp_path / "log.jsonl", records))
    assert [(r["step"], r["loss_nats"]) for r in log.train] == [(1, 5.0), (2, 4.0), (3, 3.0), (4, 5.0)]


@pytest.mark.parametrize(
    "damaged",
    [
        b"null",
        b"5",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"kind": "train"}',
        b'{"kind": "train", "step": "1", "tokens_seen": 1, "loss_nats": 1}',
        b'{"kind": "train", "step": 1, "tokens_seen": 1, "loss_nats": NaN}',
        b'{"kind": "train", "step": 1, "tokens_seen": 1, "loss_nats": null}',
        b'{"kind": "evaluation", "step": 1, "tokens_seen": 1, "loss_nats": 1}',
        b'{"kind": ["train"], "step": 1}',
    ],
)
def test_damaged_lines_are_passed_over(tmp_path, damaged):
    path = write_log(tmp_path / "log.jsonl", [train(7)], damaged + b"\n")
    assert read_log(path) == RunLog((train(7),), ())
    path.write_bytes(damaged + b"\n")
    with pytest.raises(UserError, match="holds no record of a run"):
        read_log(path)


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_bytes_are_a_log_or_one_sentence(tmp_path, data):
    path = write_log(tmp_path / "log.jsonl", [train(1)], data)
    assert read_log(path).train == (train(1),)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match="cannot be read") as caught:
            read_log(path)
        assert caught.value.fix


def test_best_evaluation_is_the_first_of_the_lowest(log):
    assert log.best_evaluation["step"] == 900
    same = RunLog((), (evaluation(1, 2.0), evaluation(2, 2.0)))
    assert same.best_evaluation["step"] == 1
    with pytest.raises(UserError, match="not evaluated yet"):
        _ = RunLog((), ()).best_evaluation


# --- scales and starts --------------------------------------------------------------------------------------


def test_scales_and_starts_are_read_too(tmp_path, made):
    records = [made.start(), train(1), made.scales(1), made.start(1, peak_flops=None), train(2), made.scales(2)]
    log = read_log(write_log(tmp_path / "log.jsonl", records))
    assert log.scales == (made.scales(1), made.scales(2))
    assert [start["step"] for start in log.starts] == [0, 1]


@pytest.mark.parametrize(
    "damage",
    [
        {"weights": None},
        {"weights": {"qkv": ["large"]}},
        {"weights": {"qkv": [0.1, 0.2, 0.3], "down": [0.1]}},
        {"weights": {"qkv": [0.1, 0.2, math.inf]}},
        {"weights": {"embedding": 0.1}, "activations": {}},
        {"activations": {"mlp": [1.0, 2.0, 3.0]}},
        {"activations": []},
        {"max_logit": "high"},
        {"tokens_seen": None},
    ],
)
def test_damaged_scales_are_passed_over(tmp_path, made, damage):
    path = write_log(tmp_path / "log.jsonl", [train(1), {**made.scales(1), **damage}, made.scales(2)])
    assert read_log(path).scales == (made.scales(2),)


def test_a_scale_that_was_no_number_is_kept_as_null(tmp_path, made):
    activations = {name: [None, 1.0, 2.0] for name in ("attention", "mlp", "residual")}
    spoilt = {**made.scales(1), "max_logit": None, "activations": activations}
    assert read_log(write_log(tmp_path / "log.jsonl", [train(1), spoilt])).scales == (spoilt,)


def test_scales_unlike_the_last_cannot_be_drawn_with_it(tmp_path, made):
    unlike = [made.scales(1, num_layers=2), made.scales(2, head=0.1), made.scales(3, embedding=[0.1, 0.2, 0.3])]
    log = read_log(write_log(tmp_path / "log.jsonl", [train(1), *unlike, made.scales(4), made.scales(5)]))
    assert [record["step"] for record in log.scales] == [4, 5]


def test_a_start_alone_is_no_run_yet(tmp_path, made):
    with pytest.raises(UserError, match="holds no record of a run"):
        read_log(write_log(tmp_path / "log.jsonl", [made.start()]))


# --- derived ------------------------------------------------------------------------------------------------


def test_utilisation_is_known_where_one_device_did_it_all(made):
    log = RunLog((), (), (), (made.start(), made.start(5)))
    assert log.utilisation_per_rate == pytest.approx(92_602_368 / 989e12)
    assert log.utilisation_per_rate == pytest.approx(0.2656 / 2.837e6, rel=1e-3)


@pytest.mark.parametrize("other", [{"peak_flops": None}, {"peak_flops": 65e12}, {"flops_per_token": None}])
def test_utilisation_is_not_guessed(made, other):
    assert RunLog((), (), (), (made.start(), made.start(5, **other))).utilisation_per_rate is None
    assert RunLog((), (), (), (made.start(peak_flops=None),)).utilisation_per_rate is None
    assert RunLog((), ()).utilisation_per_rate is None


def test_seconds_are_those_of_the_updates(made):
    assert RunLog((made.train(1), made.train(2, seconds=1.25), train(3)), ()).seconds == 1.75


def test_a_record_of_a_thinned_log_stands_for_the_updates_since_the_one_before(made):
    assert (
        RunLog((made.train(1, seconds=2.0), made.train(51, seconds=0.5), made.train(101, seconds=1.0)), ()).seconds
        == 77
    )


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=1500))
def test_a_series_is_short_ordered_and_keeps_the_mean(values):
    records = [{"step": step, "x": value} for step, value in enumerate(values)]
    steps, heights = series(records, "x")
    there = [value for value in values if value is not None]
    assert len(steps) == len(heights) <= 400
    assert steps == sorted(steps)
    if there:
        assert min(there) - 1e-6 <= min(heights) <= max(heights) <= max(there) + 1e-6
    if len(there) <= 400:
        assert heights == there


def test_a_series_runs_along_what_is_asked_for():
    assert series([train(1), train(2)], "loss_nats", along="tokens_seen") == ([100.0, 200.0], [5.0, 5.0])
    assert series([train(1)], "unknown") == ([], [])


@pytest.mark.parametrize("name", ["seconds", "tokens_per_second"])
@pytest.mark.parametrize("odd", ["x", [], {}, float("nan"), 10**400])
def test_a_record_whose_time_is_no_number_is_passed_over(tmp_path, name, odd):
    log = read_log(write_log(tmp_path / "log.jsonl", [train(1), {**train(2), name: odd}, {**train(3), name: None}]))
    assert [record["step"] for record in log.train] == [1, 3]
    assert log.seconds >= 0


@pytest.mark.parametrize("odd", ["x", [], {"a": 1}, float("inf")])
def test_a_start_whose_rates_are_no_numbers_is_passed_over(tmp_path, odd):
    start = {"kind": "start", "step": 0, "num_parameters": 9, "flops_per_token": odd, "peak_flops": 5.0}
    log = read_log(write_log(tmp_path / "log.jsonl", [start, train(1)]))
    assert log.starts == ()
    assert log.utilisation_per_rate is None


@pytest.mark.parametrize("odd", ["x", None, float("nan"), 10**400])
def test_a_number_that_cannot_be_drawn_is_left_out(odd):
    assert series([{"step": 1, "lr": 0.5}, {"step": 2, "lr": odd}], "lr") == ([1.0], [0.5])


def test_deep_nesting_is_passed_over(tmp_path):
    assert read_log(write_log(tmp_path / "log.jsonl", [train(1)], b"[" * 100_000 + b"\n")).train == (train(1),)
