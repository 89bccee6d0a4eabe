"""Runs in one picture: each in a colour of its own, named as it is, drawn the same every time."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from stentor.report.overlay import plot_overlay, write_overlay
from stentor.report.run_log import RunLog

SVG = "{http://www.w3.org/2000/svg}"


def texts_of(svg: bytes) -> list[str]:
    return ["".join(node.itertext()).strip("\u2009") for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def styles_of(svg: bytes) -> dict[str, str]:
    """Return colour and dashes of each line that has a name of ours."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if re.fullmatch(r"(loss_nats|bits_per_byte|lr|grad_norm)-.*", group.get("id", "")):
            text = ElementTree.tostring(group, encoding="unicode")
            dashes = re.search(r"stroke-dasharray: ([\d., ]+)", text)
            colour = re.search(r"stroke: (#[0-9a-f]{6})", text)
            found[group.get("id", "")] = (colour.group(1) if colour else "") + (dashes.group(1) if dashes else "")
    return found


@pytest.fixture(scope="module")
def two(made):
    return [made.run("first", [4.0, 3.0]), made.run("second", [4.5, 2.5, 2.0])]


def test_every_panel_names_its_quantity_and_axis(two):
    texts = texts_of(plot_overlay(two))
    for title in ("Held-out loss, nats per token", "Held-out bits per byte"):
        assert texts.count(title) == 2
    for title in ("Learning rate", "Gradient norm, before clipping"):
        assert texts.count(title) == 1
    assert (texts.count("tokens"), texts.count("seconds of updates")) == (4, 2)
    assert {"first", "second"} <= set(texts)


def test_a_run_has_one_style_in_all_panels_and_no_other_has_it(made):
    runs = [made.run(f"run {index}", [4.0, 3.0]) for index in range(18)]
    styles = styles_of(plot_overlay(runs))
    by_run = [{style for name, style in styles.items() if name.endswith(f"-{index}")} for index in range(1, 19)]
    colours = [{style[:7] for style in found} for found in by_run]
    assert all(len(colour) == 1 for colour in colours)
    assert len({frozenset(found) for found in by_run}) == 18


def heights(svg: bytes, name: str) -> list[tuple[float, float]]:
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if group.get("id") == name:
            points = re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", group[0].get("d", ""))
            return [(float(x), float(y)) for x, y in points]
    raise AssertionError(name)


def test_seconds_are_those_that_passed_before_an_evaluation(made):
    slow, fast = made.run("slow", [4.0, 3.0]), made.run("fast", [4.0, 3.0])
    updates = tuple({**record, "seconds": 0.25} for record in fast.log.train)
    fast = dataclasses.replace(fast, log=dataclasses.replace(fast.log, train=updates))
    svg = plot_overlay([slow, fast])
    by_tokens = [heights(svg, f"loss_nats-tokens_seen-{index}") for index in (1, 2)]
    assert by_tokens[0] == by_tokens[1]
    (slow_first, _), (slow_last, _) = heights(svg, "loss_nats-seconds-1")
    (fast_first, _), (fast_last, _) = heights(svg, "loss_nats-seconds-2")
    assert fast_last == pytest.approx(slow_first), "half the seconds for each step"
    assert slow_last - slow_first == pytest.approx(2 * (fast_last - fast_first), rel=1e-3)


@pytest.mark.parametrize("name", ["$x^2$", "_hidden", "a" * 200, "<b>&"])
def test_names_are_drawn_as_they_are(made, name):
    assert name in texts_of(plot_overlay([made.run(name, [4.0]), made.run("other", [3.0])]))


def test_odd_runs_are_drawn_too(made):
    begun = dataclasses.replace(made.run("begun", []), log=RunLog((made.train(1, grad_norm=None),), ()))
    lost = dataclasses.replace(made.run("lost", []), log=RunLog((), (made.evaluation(5, 3.0),)))
    for runs in ([begun], [lost], [begun, lost], [made.run("up", [1.0, 600.0, 700.0])], [made.run("flat", [2.0, 2.0])]):
        assert plot_overlay(runs).startswith(b"<?xml")


def test_bytes_are_the_same_every_time_in_both_formats(two, tmp_path):
    paths = write_overlay(two, tmp_path)
    assert [path.name for path in paths] == ["compare.svg", "compare.png"]
    assert paths[0].read_bytes() == plot_overlay(two)
    assert paths[1].read_bytes().startswith(b"\x89PNG")
