"""stentor demo: how its result is shown; the demo itself is tested in tests/test_demo.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stentor import demo
from stentor.demo import DemoResult
from stentor.errors import UserError
from stentor.evaluate.baselines import Baselines
from stentor.export.parity import ExportReport
from stentor.model.measure import Evaluation
from stentor.report.page import Sample


@pytest.fixture
def calls(monkeypatch) -> list[tuple[Path, tuple[str, ...]]]:
    """Stand in for the demo and note how it is called."""
    called = []

    def run_demo(folder, *, watch, observer, say, overrides):
        called.append((folder, overrides))
        with watch("reading") as on_progress:
            on_progress(1, 10)
        observer({"kind": "note", "message": "half-way"})
        say("measuring")
        export = ExportReport(
            path=str(folder / "model.gguf"), format="gguf", dtype="q8_0", size_bytes=1_234_567, proof=None
        )
        evaluation = Evaluation.from_total(1000.0, num_tokens=400, num_bytes=1500)
        compared = Baselines(2.5, 2.25, 3.5, 1500)
        samples = (Sample("The file", " is \u00e9crit <b>"), Sample("Return", " it."))
        return DemoResult(folder, "ab" * 32, evaluation, compared, (export,), samples, folder / "report.html")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    return called


def test_the_answer_is_the_samples_and_the_numbers(cli, calls):
    outcome = cli("demo", "--out", "here", "--set", "train.tokens=2048", "--set", "name=mine")
    assert outcome.code == 0
    assert calls == [(Path("here"), ("train.tokens=2048", "name=mine"))]
    assert outcome.out.startswith("The file is \u00e9crit <b>\n\nReturn it.\n\nbits per byte")
    assert "0.9618 on 1,500 bytes of held-out text" in outcome.out
    assert "xz -9e         2.2500 for the same text alone\ngzip -9        2.5000\n" in outcome.out
    assert "loss           2.5000 nats/token, perplexity 12.2\n" in outcome.out
    assert "gguf file      here/model.gguf (1.2 MB)\n" in outcome.out
    assert "report         here/report.html\n" in outcome.out
    assert outcome.err == "reading\nnote: half-way\nmeasuring\n"


def test_json_is_one_object_of_everything(cli, calls):
    outcome = cli("demo", "--json")
    assert calls == [(Path("demo"), ())]
    assert outcome.value == json.loads(outcome.out)
    assert outcome.value["bits_per_byte"] == pytest.approx(0.9618, abs=1e-4)
    assert outcome.value["xz_bits_per_byte"] == 2.25
    assert outcome.value["samples"][1] == {"prompt": "Return", "continuation": " it."}
    assert outcome.value["report"] == "demo/report.html"


def test_a_demo_with_other_settings_in_the_same_folder_is_refused(cli, monkeypatch):
    def run_demo(*arguments, **options):
        raise UserError("demo/data/corpus was made with other settings", fix="pass --force to make it again")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    cli("demo").fails(3, "made with other settings")
