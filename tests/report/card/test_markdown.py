"""Pieces of Markdown, rendered by a real renderer: no text becomes markup, ends a block or splits a cell."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.report.card.markdown import bullets, code, facts, fenced, paragraphs, plain, table, time_shown

RENDER = MarkdownIt("commonmark").enable("table").render
printable = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
)


@given(printable)
def test_plain_text_reads_as_it_is_written(text):
    rendered = RENDER(f"Word {plain(text)}")
    assert html.unescape(re.sub(r"^<p>|</p>\n$", "", rendered)) == f"Word {text}".rstrip()


@given(st.text(max_size=60))
def test_a_block_of_code_holds_any_text(text):
    rendered = RENDER(f"{fenced(text, 'text')}\n\nafter")
    assert rendered.count("<pre>") == rendered.count("</pre>") == 1
    assert rendered.endswith("<p>after</p>\n")


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2))
def test_a_table_keeps_its_cells(texts):
    rendered = RENDER(table(("a", "b"), [[plain(texts[0]), code(texts[1])]]))
    assert (rendered.count("<tr>"), rendered.count("<td")) == (2, 2)
    assert rendered.count("<code>") == (1 if texts[1] else 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        (" a", "`  a `"),
        ("a\nb\tc", r"`a\nb\tc`"),
        ("", "(empty)"),
        ("a|b", r"`a\|b`"),
    ],
)
def test_spans_of_code(text, expected):
    assert code(text) == expected


def test_html_and_markup_are_shown_not_obeyed():
    assert plain("<b>*x*</b> | y\nz") == r"&lt;b&gt;\*x\*&lt;/b&gt; \| y z"
    assert plain("a\x00b") == "a\ufffdb"


def test_tables_and_lists():
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert facts([("x", "1"), ("y", "")]).count("\n") == 2
    assert bullets(["a", "b"]) == "- a\n- b"
    assert paragraphs("a", "", "b") == "a\n\nb"


@pytest.mark.parametrize(("seconds", "shown"), [(1.25, "1.2 s"), (90, "1.50 min"), (5400, "1.50 h")])
def test_times(seconds, shown):
    assert time_shown(seconds) == shown
