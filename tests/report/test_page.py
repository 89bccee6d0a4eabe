"""The page is valid, complete, loads nothing, and shows hostile text as text."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.report.drawing import GREEN, SKY
from stentor.report.dynamics import layer_colours
from stentor.report.page import RunReport, Sample, ShippedFile, render_run_report
from stentor.report.run_log import RunLog

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Parses a page, checks that its elements nest, and keeps what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def shown(self) -> str:
        return "".join(data for tag, data in self.text if tag not in ("style", "title"))


def evaluation(step: int, loss_nats: float) -> dict:
    numbers = {"loss_nats": loss_nats, "perplexity": math.exp(loss_nats), "bits_per_byte": loss_nats / 2}
    return {"kind": "evaluation", "step": step, "tokens_seen": step * 100, **numbers}


REPORT = RunReport(
    name="tiny",
    description="A demo.",
    num_parameters=1_115_264,
    tokens_seen=1_572_864,
    seconds=187.2,
    device="cpu, float32",
    tokenizer="byte-level BPE, 2,048 tokens",
    loss_nats=2.8087,
    perplexity=16.588,
    bits_per_byte=1.4783,
    num_tokens=91_234,
    num_bytes=331_222,
    gzip_bits_per_byte=2.412,
    xz_bits_per_byte=1.985,
    unigram_bits_per_byte=3.301,
    samples=(Sample("The function", " returns the number of bytes."),),
    files=(ShippedFile("runs/tiny/model.gguf", 2_345_678, "llama.cpp"),),
    origin={"corpus": "sha256 0123", "versions": "Python 3.11"},
    commands={"Write some text": "stentor generate 'The' --model runs/tiny"},
)
LOG = RunLog((), (evaluation(10, 4.0), evaluation(20, 3.0)))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;]]>--><style>*{display:none}</style>"


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_run_report(replace(REPORT, log=LOG)))


def test_everything_is_on_the_page(page):
    shown = page.shown()
    for text in [
        "tiny",
        "A demo.",
        "1.48 bits per byte on held-out text: gzip needs 2.41, xz 1.99",
        "1,115,264",
        "1,572,864",
        "8,402",
        "3 min 07 s",
        "2.8087 nats per token",
        "16.59",
        "byte-level BPE, 2,048 tokens",
        "331,222 bytes, 91,234 tokens",
        "The function returns the number of bytes.",
        "2.3 MB",
        "llama.cpp",
        "sha256 0123",
        "stentor generate 'The' --model runs/tiny",
        "xz and gzip pack the same text alone",
        "best 20.09 at step 20",
    ]:
        assert text in shown
    headings = ["Bits per byte", "Learning curves", "Samples", "Numbers", "Results by step", "Files", "Go on"]
    headings.append("How it was made")
    assert [data for tag, data in page.text if tag == "h2"] == headings


@pytest.mark.parametrize(
    ("bits", "verdict"),
    [
        (1.5, "better than either program packs"),
        (2.2, "It beats gzip, and not yet the other"),
        (2.5, "It does not beat them yet"),
    ],
)
def test_verdict_is_honest(bits, verdict):
    assert verdict in Page(render_run_report(replace(REPORT, bits_per_byte=bits))).shown()


def test_bars_are_in_proportion(page):
    widths = [float(re.findall(r"[\d.]+", attributes["style"] or "")[0]) for attributes in page.all("i")]
    values = [1.4783, 1.985, 2.412, 3.301]
    assert widths == pytest.approx([82 * value / 3.301 for value in values], abs=0.06)


def test_nothing_is_loaded_from_anywhere(page):
    html = render_run_report(replace(REPORT, log=LOG))
    urls = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    assert urls <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}, "only names of namespaces"
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    loading = {"script", "link", "img", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
    assert not loading & {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_accessible(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id is there twice"
    for section in page.all("section"):
        assert section["aria-labelledby"] in ids
    svgs = page.all("svg")
    assert [svg["role"] for svg in svgs] == ["img", "img"]
    assert svgs[0]["aria-label"] == "Loss against the optimizer step: 4.00 at first, 3.00 at best"
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    for attributes in page.tags:
        target = attributes[1].get("xlink:href") or ""
        assert not target or target[1:] in ids


def test_colours_follow_the_theme(page):
    html = render_run_report(replace(REPORT, log=LOG))
    assert "prefers-color-scheme: dark" in html
    assert "var(--model)" in html
    svg = html[html.index("<svg") : html.rindex("</svg>")]
    assert not re.search(r"#[0-9a-f]{6}\b", svg.replace("url(#", ""))


def test_every_evaluation_is_in_a_table(page):
    cells = [data for tag, data in page.text if tag in ("td", "th")]
    for row in (["10", "1,000", "4.0000", "54.60", "2.0000"], ["20", "2,000", "3.0000", "20.09", "1.5000"]):
        start = cells.index(row[0])
        assert cells[start : start + 5] == row
    assert "best, last" in cells


def test_a_log_with_scales_shows_the_dynamics(log):
    html = render_run_report(replace(REPORT, log=log))
    page = Page(html)
    assert "Training dynamics" in [data for tag, data in page.text if tag == "h2"]
    assert [svg["role"] for svg in page.all("svg")] == ["img"] * 3
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id is there twice"
    assert "data:" not in html, "the policy of the page would hide it"
    svg = html[html.index('aria-label="How the run went') : html.rindex("</svg>")]
    colours = set(re.findall(r"#[0-9a-f]{6}\b", svg.replace("url(#", "")))
    assert colours <= {*layer_colours(3), GREEN, SKY}, "all else follows the theme"


def test_sections_without_content_are_left_out():
    bare = Page(render_run_report(replace(REPORT, samples=(), files=(), origin={}, commands={})))
    assert [data for tag, data in bare.text if tag == "h2"] == ["Bits per byte", "Numbers"]
    assert Page(render_run_report(replace(REPORT, log=RunLog((), ())))).all("svg") == []


def hostile_report(text: str) -> RunReport:
    return replace(
        REPORT,
        name=text,
        description=text,
        device=text,
        tokenizer=text,
        samples=(Sample(text, text),),
        files=(ShippedFile(text, 1, text),),
        origin={text: text},
        commands={text: text},
    )


def test_hostile_text_is_shown_as_text():
    page = Page(render_run_report(hostile_report(HOSTILE)))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Page(render_run_report(hostile_report("x"))).tags}
    assert page.shown().count(HOSTILE) == 12
    assert not page.all("script")
    assert not page.all("img")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202eright to left", "\u202eright to left"),
        ("a\x00b\x1bc\x9fd", "a\ufffdb\ufffdc\ufffdd"),
        ("a\ud800b", "a\ufffdb"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("$name ${name} $$", "$name ${name} $$"),
        ("a" * 10_000, "a" * 10_000),
    ],
)
def test_odd_characters(text, shown):
    html = render_run_report(replace(REPORT, samples=(Sample("p:", text),)))
    html.encode("utf-8")
    assert f"p:{shown}" in Page(html).shown()
    assert 'dir="auto"' in html


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_leaves_the_page_whole(text):
    page = Page(render_run_report(hostile_report(text)))
    plain = Page(render_run_report(hostile_report("x")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [a.keys() for _, a in page.tags] == [a.keys() for _, a in plain.tags]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "unknown"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599.9, "1 h 00 min"), (15_732, "4 h 22 min")],
)
def test_durations(seconds, shown):
    assert shown in Page(render_run_report(replace(REPORT, seconds=seconds))).shown()


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (2048, "2.0 kB"), (24_588_800, "24.6 MB"), (3 * 10**9, "3.00 GB")]
)
def test_sizes(size, shown):
    assert shown in Page(render_run_report(replace(REPORT, files=(ShippedFile("f", size),)))).shown()
