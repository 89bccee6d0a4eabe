"""Cleaning repairs what is broken, leaves what is whole, and does nothing the second time."""

from __future__ import annotations

import builtins
import sys
import unicodedata

import pytest
from ftfy.badness import is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.errors import MissingDependencyError
from stentor.text import clean
from stentor.text.clean import clean_documents, clean_text
from stentor.text.document import Document, Tally

# Characters that interact: blanks, line endings, escapes, compatibility forms, combining marks, signs of mojibake.
NASTY = (
    "a \t\n\r\v\f\x00\x1b[0m\x7f\x85\x80\xa0\xad\xc3\xc2\xe2\u20ac\u2122\u0153\u0152\xd0\xd8\xe9"
    "\u0301\u200b\u200d\u2028\u2060\xb4\xa8\ufb01\xb2\xbd\xb0\ufeff\ufffe\ud800\uff21"
)
nasty_text = st.text(alphabet=st.one_of(st.sampled_from(NASTY), st.characters(), st.characters(max_codepoint=0x2FF)))


@settings(max_examples=400)
@given(nasty_text)
def test_cleaning_clean_text_changes_nothing(text):
    once = clean_text(text)
    assert clean_text(once) == once


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from(" \t\n\ra\x0b\x1b[m0\x00"), max_size=40))
def test_cleaning_ascii_is_idempotent_too(text):
    once = clean_text(text)
    assert clean_text(once) == once


@settings(max_examples=200)
@given(nasty_text)
def test_what_clean_text_never_holds(text):
    cleaned = clean_text(text)
    cleaned.encode()  # no lone surrogate
    assert not any(unicodedata.category(c) == "Cc" for c in cleaned if c not in "\n\t")
    assert not set("\u200b\ufeff\u2028\u2029\xad\xa0") & set(cleaned)
    assert unicodedata.is_normalized("NFKC", cleaned)
    assert all(line == line.rstrip(" \t") for line in cleaned.split("\n"))
    assert "\n\n\n\n" not in cleaned
    assert cleaned == cleaned.strip("\n")


@settings(max_examples=300)
@given(nasty_text)
def test_the_quick_look_misses_no_mojibake_that_ftfy_sees(text):
    assert clean._maybe_mojibake(text) or not is_bad(text)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_ascii_lines_only_lose_their_ends(text):
    assert clean_text(text) == text.rstrip(" ")


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("Fran\xc3\xa7ais", "Fran\xe7ais"),
        (
            "The Mona Lisa doesn\xc3\u0192\xc2\xa2\xc3\xa2\xe2\u20ac\u0161\xc2\xac\xc3\xa2\xe2\u20ac\u017e\xc2\xa2t"
            " have eyebrows.",
            "The Mona Lisa doesn\u2019t have eyebrows.",
        ),
        ("first line is fine: caf\xe9\nsecond: caf\xc3\xa9", "first line is fine: caf\xe9\nsecond: caf\xe9"),
        ("smart \x93quotes\x94 of Windows", "smart \u201cquotes\u201d of Windows"),
        ("\ufb01ne ligature, \xbd, \uff12\uff10\uff12\uff14, x\xb2", "fine ligature, 1\u20442, 2024, x2"),
        ("e\u0301 composed", "\xe9 composed"),
        ("e\u200b\u0301 composed after removal", "\xe9 composed after removal"),
        ("a\r\nb\rc\u2028d\u2029e\ff", "a\nb\nc\nd\ne\nf"),
        ("trailing  \t\nspaces ", "trailing\nspaces"),
        ("one\n\ntwo\n\n\nthree\n\n\n\n\n\nfour", "one\n\ntwo\n\n\nthree\n\n\nfour"),
        ("blank \n \n \n \n lines", "blank\n\n\n lines"),
        ("\n\n  indented\n\tkept\n\n", "  indented\n\tkept"),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\ufeffmark, zero\u200bwidth, soft\xadhyphen, \u202eturn", "mark, zerowidth, softhyphen, turn"),
        ("non\xa0breaking", "non breaking"),
        ("lone \ud83d surrogate", "lone ? surrogate"),
        ("family \U0001f469\u200d\U0001f467 stays", "family \U0001f469\u200d\U0001f467 stays"),
        ("&amp; <b> \u201cquotes\u201d \u2014 stay", "&amp; <b> \u201cquotes\u201d \u2014 stay"),
        ("", ""),
        (" \t\r\n \x00", ""),
    ],
)
def test_repairs(dirty, expected):
    assert clean_text(dirty) == expected


def test_long_runs_of_blanks_take_linear_time():
    text = "a" + " " * 2_000_000 + "b" + "\n" * 1_000_000 + " \t" * 1_000_000
    assert clean_text(text) == "a" + " " * 2_000_000 + "b"


def test_ascii_needs_no_ftfy_and_its_absence_is_explained(monkeypatch):
    real_import = builtins.__import__

    def without_ftfy(name, *args, **kwargs):
        if name.partition(".")[0] == "ftfy":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    clean._ftfy.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_ftfy)
    monkeypatch.delitem(sys.modules, "ftfy", raising=False)
    try:
        assert clean_text("plain  ") == "plain"
        with pytest.raises(MissingDependencyError, match="'ftfy'") as caught:
            clean_text("Fran\xc3\xa7ais")
        assert "stentor[data]" in caught.value.fix
    finally:
        clean._ftfy.cache_clear()


def test_short_and_empty_documents_are_dropped_with_a_reason():
    tally = Tally()
    documents = [Document(text, str(i), "s") for i, text in enumerate(["long enough", "short", "  \n", "exactly10!"])]
    kept = list(clean_documents(documents, min_characters=10, tally=tally))
    assert [document.id for document in kept] == ["0", "3"]
    assert tally.summary()["dropped"] == {
        "empty": {"num_documents": 1, "num_text_bytes": 0},
        "too_short": {"num_documents": 1, "num_text_bytes": 5},
    }


def test_length_is_measured_after_cleaning_and_empty_goes_even_without_a_minimum():
    tally = Tally()
    documents = [Document("ab" + " " * 50, "padded", "s"), Document("\x00", "nothing", "s")]
    assert list(clean_documents(documents, min_characters=3, tally=tally)) == []
    assert [d.text for d in clean_documents(documents, min_characters=0, tally=tally)] == ["ab"]


def test_cleaning_is_lazy():
    def endless():
        while True:
            yield Document("a text", "id", "source")

    assert next(clean_documents(endless(), min_characters=1, tally=Tally())).text == "a text"


# --- what is no text ---


@pytest.mark.parametrize(
    ("data", "is_text"),
    [
        (bytes(range(256)), False),
        ("\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442".encode("cp1251"), False),
        ("plain English as UTF-16 without its mark".encode("utf-16-le"), False),
        ("Les \xe9l\xe8ves \xe9taient tr\xe8s heureux d'\xeatre arriv\xe9s \xe0 l'\xe9cole".encode("latin-1"), True),
        (b"one zero byte\0 and one \xff in a text", True),
    ],
)
def test_what_is_no_text_is_dropped_with_its_reason(data, is_text):

    tally = Tally()
    kept = list(clean_documents([Document(data.decode(errors="replace"), "a", "b")], min_characters=1, tally=tally))
    assert bool(kept) == is_text
    assert tally.dropped_documents == ({} if is_text else {"not_text": 1})
