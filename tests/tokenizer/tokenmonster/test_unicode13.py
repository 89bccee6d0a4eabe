"""Unicode 13, against the running Python's tables where the two cannot differ."""

import random
import sys
import unicodedata

import pytest

from stentor.tokenizer.tokenmonster.unicode13 import (
    LETTER,
    LOWER,
    MARK,
    NONSPACING,
    NUMBER,
    SPACE,
    UPPER,
    class_of,
    combining_class,
    decompose,
    nfd,
    runes,
    simple_lower,
    simple_upper,
)

CHANGED_LATER = {0x1734}
"""Unicode 14 made this mark a spacing one."""
CODES = random.Random(3).sample([c for c in range(sys.maxunicode) if not 0xD800 <= c < 0xE000], 40_000)


def test_categories_agree_where_both_know_a_character():
    for code in [*range(0x3000), *CODES[:10_000]]:
        category, found = unicodedata.category(chr(code)), class_of(code)
        if code in CHANGED_LATER:
            continue
        if found & (LETTER | NUMBER | MARK) == 0 and category[0] in "LNM":
            assert unicodedata.ucd_3_2_0.category(chr(code)) == "Cn"  # assigned after 13.0
            continue
        assert bool(found & LETTER) == (category[0] == "L"), hex(code)
        assert bool(found & NUMBER) == (category[0] == "N")
        assert bool(found & MARK) == (category[0] == "M")
        assert bool(found & LOWER) == (category == "Ll")
        assert bool(found & UPPER) == (category == "Lu")
        assert bool(found & NONSPACING) == (category == "Mn")


def test_characters_of_unicode_14_are_unknown():
    assert class_of(0x2C2F) == 0  # GLAGOLITIC CAPITAL LETTER CAUDATE CHRIVI, 14.0
    assert simple_lower(0x2C2F) == 0x2C2F
    assert class_of(0x1FAE7) == class_of(0x1FAF6) == 0
    assert class_of(0x1E290) == 0  # TOTO LETTER PA, 14.0


def test_white_space():
    found = [code for code in [*range(0x3100), 0xFEFF] if class_of(code) & SPACE]
    assert found == [
        *(*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
    ]


@pytest.mark.parametrize(
    ("code", "lower", "upper"),
    [
        (ord("A"), ord("a"), ord("A")),
        (ord("z"), ord("z"), ord("Z")),
        (0x130, ord("i"), 0x130),
        (0xDF, 0xDF, 0xDF),
        (0x1E9E, 0xDF, 0x1E9E),
        (0x2126, 0x3C9, 0x2126),
        (0x1F80, 0x1F80, 0x1F88),
        (0x1C5, 0x1C6, 0x1C4),
        (0x10D0, 0x10D0, 0x1C90),
        (0x149, 0x149, 0x149),
        (0x1D400, 0x1D400, 0x1D400),
    ],
)
def test_case_is_mapped_one_to_one(code, lower, upper):
    assert (simple_lower(code), simple_upper(code)) == (lower, upper)


def test_decompositions_agree():
    for code in [*range(0x2000), *range(0xAC00, 0xACFF), 0xD7A3, *CODES[:10_000]]:
        expected = unicodedata.normalize("NFD", chr(code))
        if class_of(code) or code in CODES[:5]:
            assert "".join(map(chr, decompose(code))) == expected, hex(code)
            assert combining_class(code) == unicodedata.combining(chr(code))


def test_nfd_reorders_and_keeps_what_is_not_utf8():
    text = "q\u0307\u0323\u1e69\uac01 \u0344"
    assert nfd(text.encode()).decode() == unicodedata.normalize("NFD", text)
    assert nfd(b"\xff\xcc\x81\xe2\x82") == b"\xff\xcc\x81\xe2\x82"
    assert nfd("\u0301".encode() + b"\xff" + "\u0323".encode()) == "\u0301".encode() + b"\xff" + "\u0323".encode()


def test_a_byte_that_is_not_utf8_is_a_rune_of_its_own():
    assert list(runes(b"a\xed\xa0\x80\xc3")) == [(97, b"a")] + [(0xFFFD, bytes([b])) for b in b"\xed\xa0\x80\xc3"]
    assert list(runes("\ufffd\U0001f600".encode())) == [(0xFFFD, b"\xef\xbf\xbd"), (0x1F600, b"\xf0\x9f\x98\x80")]
