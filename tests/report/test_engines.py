"""The picture of a bench: a point for each result, its number beside it, and the floor."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from stentor.bench.measure import Bench, Result
from stentor.bench.setting import ENGINES, Measurement, Setting
from stentor.errors import UserError
from stentor.report.engines import plot_engines, write_engines

SVG = "{http://www.w3.org/2000/svg}"


def bench(count: int = len(ENGINES)) -> Bench:
    results = []
    for index, engine in enumerate(list(ENGINES)[:count]):
        measured = Measurement(
            cold_start_seconds=1.0,
            prefill_seconds={16: 0.01, 128: 0.02 * (1 + index)},
            decode_seconds={16: 1e-4, 128: 2e-4 * 3**index, 900: 5e-4},
            peak_bytes=None,
            version="1",
        )
        setting = Setting(engine=engine, dtype="int8", cache_dtype="int8", num_threads=1 + index % 2)
        results.append(Result(setting, measured, 1e11, 10_000_000, {16: 0, 128: 0, 900: 0}))
    return Bench(results, {})


def texts_of(svg: bytes) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_numbers_and_names_are_in_the_picture():
    texts = texts_of(plot_engines(bench()))
    assert "Milliseconds a token, at position 128" in texts
    assert "Tokens a second of a prompt of 128" in texts
    assert {"0.200", "0.600", "1.800", "5.400"} <= set(texts)
    assert {"6,400", "3,200"} <= set(texts)
    assert "stentor: int8, cache int8, 1 thread" in texts
    assert "llama.cpp (xllamacpp): int8, cache int8, 2 threads" in texts


def test_every_result_has_a_floor():
    tree = ElementTree.fromstring(plot_engines(bench()))
    (floor,) = (group for group in tree.iter(f"{SVG}g") if group.get("id") == "floor")
    assert len(list(floor.iter(f"{SVG}use"))) == len(ENGINES)


@pytest.mark.parametrize("count", [0, 1])
def test_few_results_are_a_picture_too(count):
    assert plot_engines(bench(count)).startswith(b"<?xml")


def test_equal_benches_give_equal_bytes():
    assert plot_engines(bench(), file_format="png") == plot_engines(bench(), file_format="png")


def test_it_is_written_or_refused(tmp_path):
    write_engines(bench(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no name for a picture"):
        write_engines(bench(), tmp_path / "bench.gif")
