"""The run's log: whole lines whatever happened, and nothing left of steps that will be made again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.train.log import LOG_NAME, NoLog, TrainingLog, records_of, to_all


def lines(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / LOG_NAME).read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(tmp_path) -> TrainingLog:
    return TrainingLog(tmp_path, None)


def a_run(log: TrainingLog) -> None:
    log.record("start", step=0, num_steps=4)
    log.note("a note")
    for step in (1, 2, 3):
        log.record("train", step=step, loss_nats=5.0 - step)
        log.record("evaluation", step=step, loss_nats=4.5 - step)
    log.record("saved", step=3)


def test_records_are_written_and_shown_in_order(tmp_path):
    seen = []
    log = TrainingLog(tmp_path, seen.append)
    a_run(log)
    assert lines(tmp_path) == seen
    assert seen[0] == {"kind": "start", "step": 0, "num_steps": 4}
    assert seen[1] == {"kind": "note", "message": "a note"}


def test_a_record_is_in_the_file_before_it_is_shown(tmp_path):
    def watch(record: dict) -> None:
        assert lines(tmp_path)[-1] == record

    a_run(TrainingLog(tmp_path, watch))
    assert len(lines(tmp_path)) == 9


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_numbers_and_texts_survive_exactly(tmp_path_factory, number, text):
    folder = tmp_path_factory.mktemp("log")
    TrainingLog(folder, None).record("train", step=1, loss_nats=number, message=text)
    assert lines(folder) == [{"kind": "train", "step": 1, "loss_nats": number, "message": text}]


@pytest.mark.parametrize(("step", "num_kept"), [(0, 2), (1, 4), (2, 6), (3, 9), (99, 9)])
def test_rewinding_forgets_what_came_after_a_step(log, tmp_path, step, num_kept):
    a_run(log)
    before = lines(tmp_path)
    log.rewind(step)
    assert lines(tmp_path) == before[:num_kept]
    log.record("train", step=step + 1)
    assert lines(tmp_path)[-1] == {"kind": "train", "step": step + 1}


def test_rewinding_keeps_lines_as_they_were_byte_for_byte(log, tmp_path):
    line = b'{"step":  1, "kind":"train", "of another version": 1e-3}\n'
    write_file(tmp_path / LOG_NAME, line)
    log.rewind(1)
    assert (tmp_path / LOG_NAME).read_bytes() == line


def test_rewinding_where_there_is_no_log_makes_none(log, tmp_path):
    log.rewind(3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 5, 20, 40])
def test_a_line_that_a_crash_cut_short_is_forgotten(log, tmp_path, cut):
    a_run(log)
    whole = lines(tmp_path)
    log.record("train", step=4, loss_nats=1.25, lr=0.1, grad_norm=0.5)
    write_file(tmp_path / LOG_NAME, (tmp_path / LOG_NAME).read_bytes()[:-cut])
    log.rewind(99)
    expected = (
        whole if cut > 1 else [*whole, {"kind": "train", "step": 4, "loss_nats": 1.25, "lr": 0.1, "grad_norm": 0.5}]
    )
    assert lines(tmp_path) == expected


def test_a_line_after_one_that_was_cut_short_stands_alone(log, tmp_path):
    a_run(log)
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(b'{"kind": "train", "st')
    log.record("train", step=4)
    raw = (tmp_path / LOG_NAME).read_bytes().splitlines()
    assert raw[-2:] == [b'{"kind": "train", "st', b'{"kind": "train", "step": 4}']


@pytest.mark.parametrize(
    "line", [b"", b"null", b"7", b"[1, 2]", b'"text"', b"\xff\xfe", b"{", b'{"step": null}', b'{"step": "3"}']
)
def test_lines_that_are_no_records_are_forgotten(log, tmp_path, line):
    a_run(log)
    whole = lines(tmp_path)
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(line + b"\n")
    log.rewind(99)
    assert lines(tmp_path) == whole


def test_an_observer_that_fails_is_not_hidden(tmp_path):
    def fail(record: dict) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TrainingLog(tmp_path, fail).note("kept")
    assert lines(tmp_path) == [{"kind": "note", "message": "kept"}]


def test_several_observers_see_every_record_in_order(tmp_path):
    seen = []
    both = to_all([lambda record: seen.append(("first", record["step"])), lambda record: seen.append(("second", 0))])
    TrainingLog(tmp_path, both).record("saved", step=3)
    assert seen == [("first", 3), ("second", 0)]
    to_all([])({"kind": "saved"})


def test_records_are_read_back_whole(log, tmp_path):
    assert list(records_of(tmp_path)) == []
    a_run(log)
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(b"\xff\n[1]\n7\n" + b"[" * 100_000 + b'\n{"step": 1}\n{"kind": "train", "st')
    assert list(records_of(tmp_path)) == lines_before_the_damage(tmp_path)


def lines_before_the_damage(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / LOG_NAME).read_bytes().splitlines()[:9]]


def test_what_is_not_logged_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = NoLog()
    log.record("train", step=1)
    log.note("something")
    log.rewind(0)
    assert list(tmp_path.iterdir()) == []
