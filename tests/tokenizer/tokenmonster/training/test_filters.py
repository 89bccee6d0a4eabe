"""The compiled rules against their slow twin, against published vocabularies, and case by case."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stentor.tokenizer.tokenmonster.reference import capcode as capcoded
from stentor.tokenizer.tokenmonster.training.filters_reference import MODES, Filter
from stentor.tokenizer.tokenmonster.unicode13 import nfd

CODE_STRINGS = (b"://", b"div>", b"www.")
"""What the published vocabularies have from a fixed list of code, past the rules of their mode."""
PIECES = [
    *(b" ", b" ", b"  ", b"\n", b"\r\n", b"\t", b"a", b"b", b"word", b"1", b"23", b"D", b"C", b"W", b"DC", b"D "),
    *(b"\x7f", b"\x7f ", b".", b",", b"-", b"_", b"'", b'"', b"(", b")", b"[", b"}", b"<", b">", b";", b"!", b"`"),
    *(piece.encode() for piece in ("\u2019", "\u201c", "\u201d", "\u00e9", "\u0301", "\u00bd", "\u00a0", "\u3000")),
    *(piece.encode() for piece in ("\u4e2d", "\u0416", "\u300c", "\u300d", "\u2033", "\U0001f600", "\u0085")),
    *(b"\x80", b"\xe2\x80", b"\xff"),
]
windows = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(b"".join),
    st.binary(min_size=1, max_size=40),
    st.text(max_size=12).map(lambda text: text.encode()),
)
each_mode = pytest.mark.parametrize("mode", MODES)
each_level = pytest.mark.parametrize("level", [0, 1, 2])


@each_mode
@each_level
@given(windows, st.sampled_from([b"", b"a", b"1", b".", b" ", "\u0301".encode(), b"D", b"\xff"]))
@example(b" \nD\n", b"a")
@example(b" (x) ", b"a")
@example(b"D", b"")
def test_both_ways_agree(mode, level, compiled_filter, window, follower):
    window = window[:40]
    compiled, twin = compiled_filter(MODES.index(mode), level), Filter(mode, level)
    assert compiled.accepts(window, follower) == twin.accepts(window, follower), (window, follower)


def agree_on_windows(text: bytes, mode: str, level: int, compiled_filter, count: int) -> tuple[int, int]:
    """Check windows of a text; return how many were accepted, and how many there were."""
    compiled, twin, source = compiled_filter(MODES.index(mode), level), Filter(mode, level), random.Random(7)
    accepted = 0
    for _ in range(count):
        start, length = source.randrange(len(text)), source.choice((2, 3, 4, 5, 6, 8, 12, 20, 40))
        window, follower = text[start : start + length], text[start + length : start + length + 1]
        expected = twin.accepts(window, follower)
        assert compiled.accepts(window, follower) == expected, (window, follower)
        accepted += expected
    return accepted, count


@each_mode
@each_level
def test_both_ways_agree_on_prose(mode, level, compiled_filter, texts):
    text = capcoded(nfd("".join(texts).encode()), level)
    accepted, count = agree_on_windows(text, mode, level, compiled_filter, 1500)
    assert accepted
    assert mode == "unfiltered" or accepted < count


@pytest.mark.slow
@each_mode
@each_level
def test_both_ways_agree_on_much_real_text(mode, level, compiled_filter, shared):
    from stentor.text.sources import read_texts

    sources = (str(shared / "corpus" / "edu-val.jsonl.zst"), "builtin:docs")
    text = "".join(next(iter(read_texts(source))) for source in sources).encode()[:400_000]
    agree_on_windows(capcoded(nfd(text), level), mode, level, compiled_filter, 60_000)


@pytest.mark.parametrize(
    "name",
    [f"english-8000-{mode}{level}-v1" for mode in MODES for level in ("", "-nocapcode")]
    + ["english-32000-balanced-v1", "english-32000-strict-nocapcode-v1"],
)
def test_every_published_token_passes_the_rules_of_its_mode(name, published, compiled_filter):
    """A token may have been counted as it is, or behind a delete marker and a space."""
    vocab = published(name)
    level, mode = vocab.settings.capcode, vocab.settings.mode
    compiled, twin = compiled_filter(mode, level), Filter(MODES[mode], level)
    prefix = vocab.settings.delete_marker + b" "
    for record in vocab.records:
        token = record.token
        if record.is_duplicate or len(token) == 1 or any(string in token for string in CODE_STRINGS):
            continue
        verdicts = [compiled.accepts(token, follower) for follower in (b"a", b"1", b".")]
        assert verdicts == [twin.accepts(token, follower) for follower in (b"a", b"1", b".")]
        assert any(verdicts) or any(compiled.accepts(prefix + token, follower) for follower in (b"a", b"1", b"."))


CASES = [
    # (candidate, follower, the modes that want it), at capcode 2
    (b" word", b" ", "unfiltered clean balanced consistent strict"),
    (b" word ", b"x", "unfiltered"),
    (b" two words", b" ", "unfiltered clean balanced consistent strict"),
    (b" two wor", b"d", "unfiltered clean"),
    (b"o wor", b"d", "unfiltered clean"),
    (b"o words", b" ", "unfiltered clean balanced"),
    (b" word.", b" ", "unfiltered clean balanced consistent"),
    (b" word.C", b" ", "unfiltered clean balanced consistent"),
    (b" wordC", b" ", "unfiltered clean"),
    (b" 12", b" ", "unfiltered clean balanced consistent strict"),
    (b" 12th", b" ", "unfiltered clean balanced"),
    (b"'s", b" ", "unfiltered clean balanced consistent strict"),
    (b"()", b" ", "unfiltered clean balanced consistent strict"),
    (b" (word)", b" ", "unfiltered clean balanced consistent"),
    (b"a  b", b" ", "unfiltered"),
    (b"    ", b"x", "unfiltered clean balanced consistent strict"),
    (b".\n\n", b"D", "unfiltered clean balanced consistent strict"),
    (b"x", b" ", ""),
    ("\u00e9".encode(), b" ", "unfiltered clean balanced consistent strict"),
]


@pytest.mark.parametrize(("candidate", "follower", "modes"), CASES)
def test_what_each_mode_wants(candidate, follower, modes, compiled_filter):
    wanted = [mode for index, mode in enumerate(MODES) if compiled_filter(index, 2).accepts(candidate, follower)]
    assert wanted == modes.split()


@pytest.mark.parametrize(
    ("candidate", "is_valid", "is_latin"),
    [
        (b"abc 1", True, True),
        ("caf\u00e9 \u0301".encode(), True, True),
        ("\u0416".encode(), True, False),
        ("a\u4e2d".encode(), True, False),
        ("\u00bd \u0663 \U0001f600".encode(), True, True),
        (b"\x80a", False, True),
        (b"a\xe2\x80", False, True),
        (b"", True, True),
    ],
)
def test_whole_characters_and_latin_letters(candidate, is_valid, is_latin, compiled_filter):
    from stentor.tokenizer.tokenmonster.training import filters_reference

    compiled = compiled_filter(0, 2)
    assert (compiled.is_valid(candidate), compiled.is_latin(candidate)) == (is_valid, is_latin)
    assert filters_reference.is_latin(candidate) == is_latin
