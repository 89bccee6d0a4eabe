"""Progress: plain lines now and then without a terminal, a bar that goes away on one, nothing on stdout."""

from __future__ import annotations

import pytest

from stentor.cli import progress
from stentor.cli.output import duration, size, table
from stentor.cli.progress import TrainingDisplay, meter, show_documents, show_share

START = {
    "kind": "start",
    "step": 0,
    "num_steps": 10,
    "num_epochs": 0.5,
    "num_parameters": 1_000_000,
    "device": "cpu",
    "precision": "float32",
    "flops_per_token": 6_000_000,
    "peak_flops": None,
}
STEP = {"kind": "train", "step": 5, "tokens_seen": 500, "loss_nats": 3.25, "lr": 0.003, "tokens_per_second": 100.0}
EVALUATION = {"kind": "evaluation", "step": 5, "loss_nats": 3.0, "perplexity": 20.09, "bits_per_byte": 1.5}


@pytest.fixture
def shown(monkeypatch, request):
    """Make plain meters show every state, and hold what they say."""
    said: list[str] = []
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "talk", said.append)
    return said


def test_a_training_log_is_told_in_lines(shown):
    with meter("training") as where:
        display = TrainingDisplay(where)
        for record in (
            START,
            STEP,
            EVALUATION,
            {"kind": "saved", "step": 5},
            {"kind": "note", "message": "well"},
        ):
            display(record)
    assert shown == [
        "training 1,000,000 parameters for 10 steps (0.50 epochs) on cpu in float32",
        "training: step 5/10  loss 3.250 nats/token  lr 3.00e-03  100 tokens/s  5 s left",
        "step 5/10  held out: 3.0000 nats/token, perplexity 20.09, 1.5000 bits per byte",
        "note: well",
    ]


def test_utilisation_is_shown_where_the_peak_of_the_device_is_known(shown):
    with meter("training") as where:
        display = TrainingDisplay(where)
        display({**START, "peak_flops": 1e12})
        display({**STEP, "tokens_per_second": 50_000.0})
    assert "  50,000 tokens/s, 30.0% MFU  " in shown[-1]


def test_what_teachers_were_asked_is_shown(shown):
    with meter("training") as where:
        TrainingDisplay(where)({"kind": "asked", "step": 0, "files": 4, "of": 50})
    assert shown == ["training: asking the teachers: 4/50 parts of the text"]


def test_a_resumed_run_says_where_it_goes_on(shown):
    with meter("training") as where:
        TrainingDisplay(where)({**START, "step": 3})
    assert shown[0].endswith("going on after step 3")


def test_documents_and_shares(shown):
    with meter("reading") as where:
        show_documents(where, 1200, 3_400_000)
        show_share(where, 1, 4)
        show_share(where, 0, 0)
    assert shown == ["reading: 1,200 documents, 3.4 MB", "reading: 25%", "reading: 0%"]


def test_plain_lines_come_only_now_and_then(capsys):
    with meter("reading") as where:
        for _ in range(100):
            where.show("busy")
    assert capsys.readouterr() == ("", "")


def test_a_bar_moves_on_a_terminal_and_leaves_nothing(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with meter("training") as outer:
        with meter("reading") as inner:
            inner.show("first", share=0.5)
        outer.show("second [not markup]")
        outer.say("stays [here]")
    out, err = capsys.readouterr()
    assert out == ""
    assert "stays [here]" in err
    assert "\x1b[2K" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (7.25e9, "7.25 GB")]
)
def test_sizes(num_bytes, text):
    assert size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7380, "2 h 03 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_tables_align():
    assert table({"a": 1, "long name": "x"}) == "a          1\nlong name  x"
