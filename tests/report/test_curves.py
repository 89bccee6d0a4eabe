"""Logs are read whatever a crash did to them, and drawn the same every time."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import MissingDependencyError, UserError
from stentor.report.curves import RunLog, plot_curves, read_log, write_curves

SVG = "{http://www.w3.org/2000/svg}"


def train(step: int, loss_nats: float = 5.0) -> dict:
    return {"kind": "train", "step": step, "tokens_seen": step * 100, "loss_nats": loss_nats, "lr": 1e-3}


def evaluation(step: int, loss_nats: float) -> dict:
    numbers = {"loss_nats": loss_nats, "perplexity": math.exp(loss_nats), "bits_per_byte": loss_nats / 2}
    return {"kind": "evaluation", "step": step, "tokens_seen": step * 100, **numbers}


def write_log(path: Path, records: list[dict], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records) + tail)
    return path


@pytest.fixture(scope="module")
def log() -> RunLog:
    steps = range(1, 1001)
    return RunLog(
        tuple(train(step, 3 + 5 * math.exp(-step / 100)) for step in steps),
        tuple(
            evaluation(step, 3 + 5 * math.exp(-step / 100) + (0.3 if step == 1000 else 0)) for step in steps[99::100]
        ),
    )


# --- reading ------------------------------------------------------------------------------------------------


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


# --- drawing ------------------------------------------------------------------------------------------------


def texts_of(svg: bytes) -> str:
    return "\n".join("".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_svg_has_both_panels_and_the_best_step(log):
    best = log.best_evaluation
    texts = texts_of(plot_curves(log))
    assert "Loss in nats per token" in texts
    assert "Perplexity" in texts
    assert f"best {best['loss_nats']:.2f} at step 900" in texts
    assert f"best {best['perplexity']:.2f} at step 900" in texts
    assert texts.count("optimizer step") == 2


def test_one_panel_alone(log):
    texts = texts_of(plot_curves(log, quantities=("perplexity",)))
    assert "Perplexity" in texts
    assert "nats" not in texts


def test_bytes_are_the_same_every_time_whatever_the_users_style(log):
    import matplotlib

    first = plot_curves(log)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert plot_curves(log) == first
        assert matplotlib.rcParams["font.size"] == 30
    assert not re.search(rb"\d{4}-\d\d-\d\dT|<dc:|Matplotlib", first)


def test_png_is_a_picture_of_twice_the_screens_resolution(log):
    png = plot_curves(log, file_format="png")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") == pytest.approx(2 * 4.6 * 200, abs=1)
    assert b"Software" not in png


def test_long_runs_are_thinned_to_averages(log):
    def points(log):
        (line,) = (
            n for n in ElementTree.fromstring(plot_curves(log)).iter(f"{SVG}g") if n.get("id") == "loss_nats-training"
        )
        return line[0].get("d", "").count("L")

    long = RunLog(tuple(train(step) for step in range(1, 14_649)), ())
    assert points(RunLog(log.train[:50], ())) <= 50
    assert points(long) < 400


@pytest.mark.parametrize(
    "odd",
    [
        RunLog((train(1),), ()),
        RunLog((), (evaluation(1, 3.0),)),
        RunLog((train(1, 0.0), train(2, 1e6)), (evaluation(1, 700.0), evaluation(2, 600.0))),
        RunLog((), ()),
    ],
    ids=["no evaluation", "one evaluation", "extremes", "empty"],
)
def test_odd_logs_are_drawn_too(odd):
    assert plot_curves(odd).startswith(b"<?xml")


def test_write_curves(log, tmp_path):
    paths = write_curves(log, tmp_path / "report")
    assert [path.name for path in paths] == ["curves.svg", "curves.png"]
    assert paths[0].read_bytes() == plot_curves(log)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["curves.png", "curves.svg"]


def test_without_matplotlib_the_extra_is_named(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"stentor\[report\]"):
        plot_curves(log)
