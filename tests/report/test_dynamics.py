"""The picture of a run's course: every panel its log has something for, and the same bytes every time."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from stentor.report.dynamics import layer_colours, plot_dynamics, write_dynamics
from stentor.report.run_log import RunLog

SVG = "{http://www.w3.org/2000/svg}"
OF_UPDATES = ["Bits per byte", "Learning rate", "Gradient norm, before clipping", "Tokens per second"]
OF_SCALES = [
    *(f"Weight RMS: {name}" for name in ("queries, keys, values", "attention's output", "gate and up", "down")),
    *("Gain RMS: attention's norm", "Gain RMS: MLP's norm", "Weight RMS: embedding", "Gain RMS: last norm"),
    *(f"Activation RMS: {name}" for name in ("attention's output", "MLP's output", "residual stream")),
    "Largest logit, without its sign",
]


def texts_of(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def titles_of(svg: bytes) -> list[str]:
    known = {*OF_UPDATES, *OF_SCALES}
    return [text for text in texts_of(svg) if text in known or " RMS: " in text]


def lines_of(svg: bytes) -> dict[str, str]:
    """Return the colour of each line that has a name of ours."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        name = group.get("id", "")
        if re.match(r"weights-|activations-|max-logit|.*-line$", name):
            colour = re.search(r"stroke: (#[0-9a-f]{6})", ElementTree.tostring(group, encoding="unicode"))
            found[name] = colour.group(1) if colour else ""
    return found


def test_every_panel_is_there_in_order(log):
    assert titles_of(plot_dynamics(log)) == [*OF_UPDATES, *OF_SCALES]


def test_each_layer_has_a_line_in_its_colour(log):
    lines, colours = lines_of(plot_dynamics(log)), layer_colours(3)
    for name in ("weights-qkv", "weights-down", "weights-mlp_norm", "activations-residual", "activations-mlp"):
        assert [lines[f"{name}-{layer}"] for layer in (1, 2, 3)] == colours
    assert {"weights-embedding", "weights-final_norm", "max-logit", "lr-line", "grad_norm-line"} <= lines.keys()


def test_layers_are_named_beside_the_panels(log):
    texts = texts_of(plot_dynamics(log))
    assert texts.count("layer") == 1
    end = texts.index("layer")
    assert texts[end - 3 : end] == ["1", "2", "3"]


def test_a_qwen3_with_a_head_of_its_own_has_more_panels(log, made):
    more = {"q_norm": [1.0, 1.1, 1.2], "k_norm": [1.0, 1.1, 1.2], "head": 0.03}
    titles = titles_of(plot_dynamics(dataclasses.replace(log, scales=(made.scales(1, **more), made.scales(2, **more)))))
    assert "Gain RMS: queries' norm" in titles
    assert "Gain RMS: keys' norm" in titles
    assert titles[-2:] == ["Weight RMS: embedding and head", "Gain RMS: last norm"], "they fill the last row"
    assert len(titles) == 18


def test_a_log_without_scales_has_the_rest(log):
    svg = plot_dynamics(dataclasses.replace(log, scales=()))
    assert titles_of(svg) == OF_UPDATES
    assert "layer" not in texts_of(svg)


@pytest.mark.slow
def test_mfu_is_shown_where_the_device_is_known(log, made):
    assert "MFU, %" in texts_of(plot_dynamics(log))
    unknown = dataclasses.replace(log, starts=(made.start(peak_flops=None),))
    assert "MFU, %" not in texts_of(plot_dynamics(unknown))


@pytest.mark.slow
@pytest.mark.parametrize("num_layers", [1, 2, 12, 21, 64])
def test_colours_differ_and_run_from_dark_to_light(num_layers, made, log):
    colours = layer_colours(num_layers)
    assert len(set(colours)) == num_layers
    lightness = [
        sum(weight * int(colour[place : place + 2], 16) for weight, place in ((0.21, 1), (0.72, 3), (0.07, 5)))
        for colour in colours
    ]
    assert lightness == sorted(lightness)
    deep = dataclasses.replace(log, scales=(made.scales(1, num_layers), made.scales(2, num_layers)))
    texts = texts_of(plot_dynamics(deep))
    ticks = texts[: texts.index("layer")]
    assert ticks[-1] == str(1 + (num_layers - 1) // -(-num_layers // 12) * -(-num_layers // 12))


def spoilt(record: dict) -> dict:
    """Return scales of which some were no numbers, and others nothing at all."""
    activations = {"attention": [None, 0.0, 1.0], "mlp": [0.0, 0.0, 0.0], "residual": [None, None, None]}
    return {**record, "activations": activations, "max_logit": None}


@pytest.mark.slow
def test_odd_logs_are_drawn_too(made):
    bare = {"kind": "train", "step": 1, "tokens_seen": 9, "loss_nats": 2.0}
    for odd in (
        RunLog((), ()),
        RunLog((bare,), ()),
        RunLog((made.train(1, grad_norm=None), made.train(2, grad_norm=0.0)), (made.evaluation(1, 2.0),)),
        RunLog((made.train(1),), (), (spoilt(made.scales(1)),)),
        RunLog((made.train(1),), (), (spoilt(made.scales(1)), made.scales(2)), (made.start(),)),
    ):
        assert plot_dynamics(odd).startswith(b"<?xml")


@pytest.mark.slow
def test_bytes_are_the_same_every_time(log):
    assert plot_dynamics(log) == plot_dynamics(log)
    assert plot_dynamics(log, file_format="png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_both_formats_are_written(log, tmp_path):
    paths = write_dynamics(log, tmp_path)
    assert [path.name for path in paths] == ["dynamics.svg", "dynamics.png"]
    assert paths[0].read_bytes() == plot_dynamics(log)
