"""Curves are drawn the same every time, of any log."""

from __future__ import annotations

import math
import re
import sys
from xml.etree import ElementTree

import pytest

from stentor.errors import MissingDependencyError
from stentor.report.curves import plot_curves, write_curves
from stentor.report.run_log import RunLog

SVG = "{http://www.w3.org/2000/svg}"


def train(step: int, loss_nats: float = 5.0) -> dict:
    return {"kind": "train", "step": step, "tokens_seen": step * 100, "loss_nats": loss_nats, "lr": 1e-3}


def evaluation(step: int, loss_nats: float) -> dict:
    numbers = {"loss_nats": loss_nats, "perplexity": math.exp(loss_nats), "bits_per_byte": loss_nats / 2}
    return {"kind": "evaluation", "step": step, "tokens_seen": step * 100, **numbers}


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
