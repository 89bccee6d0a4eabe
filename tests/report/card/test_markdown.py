"""Pieces of Markdown, rendered by a real renderer: no text becomes markup, ends a block or splits a cell."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.report.card.markdown import (
    amount_shown,
    bullets,
    code,
    facts,
    fenced,
    link,
    paragraphs,
    plain,
    table,
    time_shown,
)

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


BEGINNINGS = st.sampled_from(
    ["#", "##", "-", "+", "1.", "12)", "---", "===", ">", "|", "~~~", "```", "    ", "* *", "[a]:"]
)


@given(st.lists(st.one_of(BEGINNINGS, st.text(st.characters(min_codepoint=32, max_codepoint=0x7E), max_size=6))))
def test_plain_text_begins_no_block(words):
    """At the beginning of a paragraph, of a heading and of a list's item, where more is markup than within a line."""
    text, shown = " ".join(words), " ".join(" ".join(words).split())
    if shown:
        assert html.unescape(RENDER(plain(text))) == f"<p>{shown}</p>\n"
        assert html.unescape(RENDER(f"# {plain(text)}")) == f"<h1>{shown}</h1>\n"
        assert html.unescape(RENDER(bullets([plain(text)]))) == f"<ul>\n<li>{shown}</li>\n</ul>\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a", r"\# a"),
        ("C #", r"C \#"),
        ("C# and F#", "C# and F#"),
        ("- a", r"\- a"),
        ("-5 to +5", "-5 to +5"),
        ("3. a", r"3\. a"),
        ("3.14", "3.14"),
        ("2026) a", r"2026\) a"),
    ],
)
def test_only_what_would_be_markup_is_escaped(text, expected):
    assert plain(text) == expected


@given(st.text(max_size=30), st.text(min_size=1, max_size=30).filter(str.strip))
def test_a_link_is_one_link_whatever_is_in_it(text, address):
    rendered = RENDER(table(("a", "b"), [[link(f"x{text}", f"https://example.org/{address}"), "2"]]))
    assert (rendered.count("<td"), rendered.count("<a href="), rendered.count("</a>")) == (2, 1, 1)
    assert rendered.count("<") == rendered.count(">")


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("https://e.org/a_b?c=1&d=2#e", "https://e.org/a_b?c=1&d=2#e"),
        ("https://e.org/Stentor_(ciliate)", "https://e.org/Stentor_%28ciliate%29"),
        ("https://e.org/a b|c", "https://e.org/a%20b%7Cc"),
        ("https://e.org/?a=1&copy;=2", "https://e.org/?a=1&copy;=2"),
    ],
)
def test_addresses_lead_where_they_did(address, target):
    (found,) = re.findall('href="([^"]*)"', RENDER(link("x", address)))
    assert html.unescape(found) == target


def test_a_text_without_an_address_is_no_link():
    assert link("a*b", "") == link("a*b", "  ") == r"a\*b"


def test_a_bar_in_code_is_escaped_in_a_table_alone():
    assert code("a|b", in_table=False) == "`a|b`"
    assert "<code>a|b</code>" in RENDER(code("a|b", in_table=False))
    assert "<code>a|b</code>" in RENDER(table(("a", "b"), [[code("a|b"), "2"]]))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1.00 min"),
        (3599, "59.98 min"),
        (3599.9, "1.00 h"),
        (360_000, "100.00 h"),
    ],
)
def test_no_time_is_sixty_of_its_unit(seconds, shown):
    assert time_shown(seconds) == shown


@given(st.floats(0, 1e9))
def test_amounts_keep_their_first_three_digits(amount):
    shown = amount_shown(amount)
    assert float(shown.replace(",", "")) == pytest.approx(amount, rel=5.1e-3, abs=1e-300)
    assert "e+" not in shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(0.0, "0"), (0.19444, "0.194"), (999.4, "999"), (999.6, "1,000"), (1234567.8, "1,234,568")]
)
def test_amounts(amount, shown):
    assert amount_shown(amount) == shown
