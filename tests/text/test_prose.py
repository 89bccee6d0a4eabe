"""English sentences pass, with their headings; code, tables and badges stay behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.text.prose import is_prose, prose_paragraphs

SENTENCE = "The clock in the tower strikes twelve when the sun is at its highest."


@pytest.mark.parametrize(
    "paragraph",
    [
        SENTENCE,
        "Return a new list that holds the items of the first one, in the order in which they were added.",
        "If the file does not exist, it is created; otherwise its contents are\nreplaced by the new text.",
    ],
)
def test_prose(paragraph):
    assert is_prose(paragraph)


@pytest.mark.parametrize(
    "paragraph",
    [
        "",
        "Too short to tell.",
        "x = [i ** 2 for i in range(10) if i % 2 == 0 and i != 4]",
        "0.12 0.34 0.56 0.78 the of and to in is",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa",
        "Der Turm steht seit vielen Jahren mitten auf dem grossen Marktplatz.",
        "+-----+-----+ a | b | the | and | of | to | in +-----+-----+",
    ],
)
def test_not_prose(paragraph):
    assert not is_prose(paragraph)


@pytest.mark.parametrize(
    ("markup", "plain"),
    [
        ("the :class:`~collections.OrderedDict` class", "the collections.OrderedDict class"),
        ("the :ref:`section on names <naming>` above", "the section on names above"),
        ("the ``text`` and the `other` names", "the text and the other names"),
        ("the [manual](https://example.org/a) of it", "the manual of it"),
        ("the `home page <https://example.org>`_ of it", "the home page of it"),
        ("the [`~models.Bert`] model", "the models.Bert model"),
        ("a **bold** and an *emphasised* word", "a bold and an emphasised word"),
        ("a <b>bold</b> word <!-- not this -->here", "a bold word here"),
        ("two * three * four stays", "two * three * four stays"),
        ("snake_case and __dunder__ stay", "snake_case and __dunder__ stay"),
    ],
)
def test_inline_markup_is_taken_off(markup, plain):
    assert list(prose_paragraphs(f"{SENTENCE} It is {markup}.")) == [f"{SENTENCE} It is {plain}."]


def test_heading_comes_with_its_paragraph_only():
    text = f"Usage\n=====\n\n{SENTENCE}\n\nTable\n-----\n\n1 2 3 4 5 6 7\n\n## Notes\n\nWhen {SENTENCE}"
    assert list(prose_paragraphs(text)) == ["Usage", SENTENCE, "Notes", f"When {SENTENCE}"]


def test_sentence_that_announces_lost_code_goes_with_it():
    announcement = "This is how it is done with the new function:"
    assert list(prose_paragraphs(f"{SENTENCE}\n\n{announcement}\n\n>>> f(x)\n1\n\n{SENTENCE}")) == [SENTENCE, SENTENCE]
    assert list(prose_paragraphs(f"{announcement}\n\n{SENTENCE}")) == [announcement, SENTENCE]


@pytest.mark.parametrize(
    "block",
    [
        f">>> print('{SENTENCE}')\n{SENTENCE}",
        f".. note:: {SENTENCE}",
        f"![{SENTENCE}](image.png)",
        f"[![{SENTENCE}](badge.svg)](https://example.org)",
        f"| {SENTENCE} | yes |",
        f"[reference]: https://example.org {SENTENCE}",
        f"```python\n{SENTENCE}\n```",
    ],
)
def test_blocks_that_are_left_behind(block):
    assert list(prose_paragraphs(f"{block}\n\n{SENTENCE}")) == [SENTENCE]


def test_unclosed_fence_hides_the_rest():
    assert list(prose_paragraphs(f"{SENTENCE}\n\n```\n{SENTENCE}\n\n{SENTENCE}")) == [SENTENCE]


@given(st.text())
def test_any_text_is_taken(text):
    for paragraph in prose_paragraphs(text):
        assert paragraph


def test_long_odd_input_takes_linear_time():
    for piece in ("`", "*", "[", "<", ":a:`", "```\n", "\n \n", "a ", "``x", "<!--", "[a](", "a:", "` ", "[ "):
        list(prose_paragraphs(piece * 30_000))


WRAPPED = "This sentence is so long that its writer had to wrap it onto\na second line of the page, where it then ends."
ITEMS = """All of these are items of a list that is in the text above it
- and the first is as long as a wrapped line of such a text
  and goes on here
- and the second is short"""
FIELDS = """name: the name by which this thing is known to all of the others
size: how large it is, where that is known"""
VERSE = """Short lines are left alone here.
They are verse, or they are
set so for a reason."""
INDENTED = """This text is indented and wrapped like any other of its kind
    but the second line stands further in than the first"""
HEADING = """What follows is said of the things that were told in the chapter
before this one:

And this is what is said of them."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WRAPPED, WRAPPED.replace("\n", " ")),
        (ITEMS, ITEMS.replace("\n  and", " and")),
        (VERSE, VERSE),
        (FIELDS, FIELDS),
        (INDENTED, INDENTED),
        (HEADING, HEADING.replace("\nbefore", " before")),
    ],
)
def test_wrapped_lines_are_joined_and_no_others(text, expected):
    assert "\n\n".join(prose_paragraphs(text)) == expected
