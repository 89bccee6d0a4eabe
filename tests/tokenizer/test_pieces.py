import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.tokenizer.pieces import cut, exact_parts, without_surrogates

text_with_boundaries = st.text(alphabet="abZ \n\r\t.!'s1_\u00e9\u2028\x1c", max_size=120)


@given(text=text_with_boundaries, size=st.integers(1, 40))
def test_pieces_join_to_the_text(text, size):
    pieces = list(cut(text, size))
    assert "".join(pieces) == text
    assert all(len(piece) >= size for piece in pieces[:-1])


@given(text=text_with_boundaries, size=st.integers(1, 20))
def test_cutting_changes_no_id(tokenizer, text, size):
    whole = tokenizer.encode(text)
    assert [i for piece in cut(text, size) for i in tokenizer.encode(piece)] == whole


def test_cuts_are_frequent_in_prose():
    pieces = list(cut("It was the best of times, it was the worst of times.\nIt was\n" * 50, 100))
    assert max(map(len, pieces)) < 130


@pytest.mark.parametrize("text", ["a" * 100, "1 2 3 4 5 6 7 8 9" * 5, "a  b  c  d" * 9, "x. y. z. " * 9])
def test_text_without_a_certain_boundary_stays_whole(text):
    assert list(cut(text, 10)) == [text]


def test_no_text_has_no_pieces():
    assert list(cut("")) == []
    assert exact_parts("") == exact_parts(b"") == []


@given(data=st.binary(max_size=60))
def test_exact_parts_are_the_bytes(data):
    parts = exact_parts(data)
    assert b"".join(bytes([part]) if isinstance(part, int) else part.encode() for part in parts) == data
    assert all(not isinstance(part, int) or part >= 0x80 for part in parts)


def test_each_broken_byte_stands_alone():
    assert exact_parts(b"a\xe6\x97b\xe6\x97\xa5\xff") == ["a", 0xE6, 0x97, "b\u65e5", 0xFF]


@given(text=st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_surrogates_become_question_marks(text):
    assert without_surrogates(text) == re.sub("[\ud800-\udfff]", "?", text)
