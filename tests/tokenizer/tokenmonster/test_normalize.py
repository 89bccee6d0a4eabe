"""Every normalisation step, its place in the order, and the habits of the original."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.tokenizer.tokenmonster.normalize import (
    ACCENTS,
    COLLAPSE,
    LEADING_SPACE,
    LOWERCASE,
    NAMES,
    NFD,
    QUOTEMARKS,
    SYNONYMS,
    TRIM,
    UNIX_LINES,
    normalize,
)

CURLY = "\u2018a\u2019 \u201cb\u201d"


def normalized(text: str, flags: int) -> str:
    return normalize(text.encode(), flags).decode()


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("\u00e9\r\n  \u2019", 0, "\u00e9\r\n  \u2019"),
        ("\u00e9", NFD, "e\u0301"),
        ("\u00c9a", LOWERCASE, "\u00e9a"),
        ("\u00c9\u0131", ACCENTS, "E\u0131"),
        (CURLY, QUOTEMARKS, "'a' \"b\""),
        ("a   b  \n  c", COLLAPSE, "a b \n c"),
        ("\n\t a \r", TRIM, "a"),
        ("a", LEADING_SPACE, " a"),
        (" a", LEADING_SPACE, " a"),
        ("", LEADING_SPACE, ""),
        ("\na", LEADING_SPACE, " \na"),
        ("a\r\nb\rc\r\r\n", UNIX_LINES, "a\nb\rc\r\n"),
        ("  ", TRIM | LEADING_SPACE, ""),
        ("abc", TRIM | LEADING_SPACE, " abc"),
        ("\u0130", LOWERCASE, "i\u0307"),
        ("\u0130", LOWERCASE | NFD, "i\u0307"),
        ("\u0130", LOWERCASE | ACCENTS, "i"),
    ],
)
def test_each_step(text, flags, expected):
    assert normalized(text, flags) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u2019a  b", "'a b"),
        ("a  b\u2019", "a b\u2019"),
        ("a  b  c\u2019", "a b c'"),
        ("a   b\u2019", "a b'"),
        ("\u2019a  b\u2019", "'a b'"),
    ],
)
def test_quotes_are_left_alone_while_one_byte_is_removed(text, expected):
    assert normalized(text, COLLAPSE | QUOTEMARKS) == expected


def test_a_carriage_return_counts_as_removed():
    assert normalized("\r\n\u2019", COLLAPSE | QUOTEMARKS | UNIX_LINES) == "\n\u2019"
    assert normalized("\r\n\u2019", QUOTEMARKS | UNIX_LINES) == "\n'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u0391\u03a3 \u039f\u0394\u039f\u03a3.", "\u03b1\u03c2 \u03bf\u03b4\u03bf\u03c3."),
        ("\u0391\u03a3", "\u03b1\u03c3"),
        ("\u0391\u03a3.\u0391", "\u03b1\u03c3.\u03b1"),
        ("\u0391\u03a3. ", "\u03b1\u03c2. "),
        (" \u03a3 ", " \u03c3 "),
        ("\u0391" + "\u03a3" + "." * 40 + " ", "\u03b1\u03c3" + "." * 40 + " "),
    ],
)
def test_final_sigma_needs_proof(text, expected):
    assert normalized(text, LOWERCASE) == expected


@given(st.binary(), st.integers(0, 255))
def test_any_bytes_with_any_flags(data, flags):
    result = normalize(data, flags)
    if flags & TRIM and not flags & (LEADING_SPACE | ACCENTS):  # accents go after the trim
        assert result == result.strip(bytes(range(0x21)))


@given(st.binary())
def test_what_is_not_utf8_stays(data):
    assert normalize(b"\xff" + data + b"\xfe", NFD).startswith(b"\xff")


def test_synonyms_name_steps():
    assert set(SYNONYMS.values()) <= set(NAMES)
    assert not set(SYNONYMS) & set(NAMES)
