"""A comparison of runs as tables, a page and files."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from stentor.errors import UserError
from stentor.report.comparison import kind_of, render_comparison, result_rows, setting_rows, write_comparison
from stentor.report.overlay import plot_overlay
from stentor.report.run_log import RunLog

HOSTILE = "<script>alert(1)</script>\"'&amp;"


class Page(HTMLParser):
    """Checks that elements nest, and keeps tags and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def two(made):
    first, second = made.run("first", [4.0, 3.0]), made.run("second", [4.5, 2.5])
    return [first, dataclasses.replace(second, settings={**second.settings, "train.lr": 2e-3, "train.new": True})]


def test_results_by_hand(two):
    rows = dict(result_rows(two))
    assert rows["parameters"] == ["12,294,400", "12,294,400"]
    assert rows["best held-out loss, nats per token"] == ["3.0000", "2.5000"]
    assert rows["last bits per byte"] == ["1.5000", "1.2500"]
    assert rows["tokens per second, median"] == ["200", "200"]
    assert rows["seconds of updates"] == ["10.0", "10.0"]
    assert rows["MFU"] == ["0.0%", "0.0%"]


def test_what_is_not_known_is_a_dash(made):
    begun = dataclasses.replace(made.run("begun", []), log=RunLog((made.train(1),), ()))
    rows = dict(result_rows([begun]))
    assert rows["best bits per byte"] == rows["MFU"] == rows["parameters"] == ["-"]
    assert rows["tokens"] == ["100"]


def test_settings_by_hand(two):
    assert list(setting_rows(two)) == [("train.lr", ["0.001", "0.002"]), ("train.new", ["-", "true"])]


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_holds_tables_and_picture_and_loads_nothing(two):
    html = render_comparison(two)
    page = Page(html)
    for text in ("first, second", "1.2500 bits per byte", "by second", "train.lr", "0.002", "best bits per byte"):
        assert text in page.text
    assert page.tags.count("svg") == 1
    assert page.tags.count("table") == 2
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert set(re.findall(r"https?://[^\s\"'<>)]+", html)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }


def test_the_page_says_what_does_not_compare(two, made):
    text = Page(render_comparison([*two, made.run("third", [1.0], counts=(5, 6), held_out_sha256="x")])).text
    assert "third was measured on other held-out text than first" in text
    assert "at best, by" not in text


def test_the_page_of_runs_that_do_not_differ_or_were_not_evaluated(made):
    same = Page(render_comparison([made.run("a", [4.0]), made.run("b", [4.0])]))
    assert "Settings that differ" not in same.text
    begun = dataclasses.replace(made.run("begun", []), log=RunLog((made.train(1),), ()))
    assert "No run was evaluated yet." in Page(render_comparison([begun])).text


def test_hostile_names_and_settings_are_shown_as_text(made):
    run = made.run(HOSTILE, [4.0])
    other = dataclasses.replace(run, settings={**run.settings, HOSTILE: HOSTILE})
    page = Page(render_comparison([run, other]))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 6


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("a.svg", "svg"), ("a.PNG", "png"), ("b/a.html", "html"), ("a", "folder"), ("b.c/a", "folder")]
)
def test_a_name_asks_for_a_kind(tmp_path, name, kind):
    assert kind_of(tmp_path / name) == kind


def test_a_name_of_another_kind_is_refused_unless_it_is_a_folder(tmp_path):
    with pytest.raises(UserError, match="is no name for a comparison"):
        kind_of(tmp_path / "a.gif")
    (tmp_path / "runs.2026").mkdir()
    assert kind_of(tmp_path / "runs.2026") == "folder"


@pytest.mark.slow
def test_each_kind_is_written(two, tmp_path):
    assert write_comparison(two, tmp_path / "x.svg") == [tmp_path / "x.svg"]
    assert (tmp_path / "x.svg").read_bytes() == plot_overlay(two)
    write_comparison(two, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    write_comparison(two, tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == render_comparison(two)
    paths = write_comparison(two, tmp_path / "all")
    assert [path.name for path in paths] == ["compare.html", "compare.svg", "compare.png"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(path.name for path in paths)
