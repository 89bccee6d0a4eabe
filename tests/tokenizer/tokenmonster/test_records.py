"""The record table, against hand-made cases and the stored tables of published vocabularies."""

import pytest

from stentor.tokenizer.tokenmonster.records import (
    BEGINS_WITH_LETTER,
    BEGINS_WITH_MARKER,
    BEGINS_WITH_SPACE,
    ENDS_WITH_LETTER,
    ENDS_WITH_MARKER,
    HOMOGENEOUS,
    SPECIAL,
    WHOLE_WORD,
    Classes,
    Token,
    build_records,
    primary_tokens,
)
from stentor.tokenizer.tokenmonster.vocab_file import NONE, Settings


def record(tokens: list[bytes], wanted: bytes, capcode: int = 2):
    table = [Token(token, index) for index, token in enumerate(tokens)]
    records, _ = build_records(table, Settings(capcode=capcode))
    found = next(r for r in records if r.token == wanted)
    names = [b"" if alt == NONE else records[alt].token for alt in (found.alt1, found.alt2)]
    return found, names


@pytest.mark.parametrize(
    ("token", "flag", "num_words"),
    [
        (b" hello", BEGINS_WITH_SPACE | WHOLE_WORD | ENDS_WITH_LETTER | HOMOGENEOUS, 1),
        (b"hello", BEGINS_WITH_LETTER | ENDS_WITH_LETTER | HOMOGENEOUS, 0),
        (b" of the", BEGINS_WITH_SPACE | ENDS_WITH_LETTER | HOMOGENEOUS, 2),
        (b" 12", BEGINS_WITH_SPACE | HOMOGENEOUS, 1),
        (b".", HOMOGENEOUS, 0),
        (b" a1", BEGINS_WITH_SPACE, 1),
        (b"DC", BEGINS_WITH_MARKER | ENDS_WITH_MARKER | HOMOGENEOUS, 0),
        (b"C", BEGINS_WITH_MARKER | BEGINS_WITH_SPACE | ENDS_WITH_MARKER | HOMOGENEOUS, 0),
        ("\u0142".encode(), BEGINS_WITH_LETTER | ENDS_WITH_LETTER, 0),
        ("\u2019".encode(), HOMOGENEOUS, 0),
    ],
)
def test_flags_and_words(token, flag, num_words):
    found, _ = record([token], token)
    assert (found.flag, found.num_words) == (flag, num_words)


def test_a_token_that_may_follow_a_word_has_a_second_spelling():
    records, _ = build_records([Token(b"he", 7, 0.5), Token(b"D", 8), Token(b".", 9)], Settings())
    assert [(r.token, r.id, r.score) for r in records if r.id == 7] == [(b"he", 7, 0.5), (b"D he", 7, -1.0)]
    assert sum(r.is_duplicate for r in records) == 1


def test_a_second_spelling_over_forty_bytes_is_left_out():
    assert len(build_records([Token(b"a" * 38, 0), Token(b"b" * 39, 1)], Settings())[0]) == 3


def test_cuts_before_a_word_come_first():
    _, alternatives = record([b" of", b" of t", b" o", b" of the"], b" of the")
    assert alternatives == [b" of", b" of t"]


def test_the_longest_of_plain_cuts_wins():
    _, alternatives = record([b" hel", b" he", b" h", b" hell", b" hello"], b" hello")
    assert alternatives == [b" hell", b" hel"]


def test_the_cut_before_a_possessive_ends_the_search():
    _, alternatives = record([b" cat", b" cat'", b" ca", b" cat's"], b" cat's")
    assert alternatives == [b" cat", b" cat'"]


def test_special_tokens_have_no_shape():
    records, begin_byte = build_records([Token(b"<eos>", 0, 0.0, True), Token(b"<", 1), Token(b"<eo", 2)], Settings())
    special = records[-1]
    assert (special.flag, special.num_words, special.alt1, special.alt2) == (SPECIAL, 0, NONE, NONE)
    assert begin_byte[ord("<")] == 0


def test_first_bytes_need_three_tokens_of_a_kind():
    tokens = [b" a", b" b", b" c", b"xa", b"xb", b"xc", b"!a", b"!b", b"!c", b"ya", b"yb"]
    _, begin_byte = build_records([Token(token, index) for index, token in enumerate(tokens)], Settings(capcode=0))
    assert [begin_byte[byte] for byte in b" x!y"] == [12, 1, 10, 0]


def test_markers_are_letters_only_without_capcode_two():
    assert not Classes(2).is_letter(ord("D"))
    assert Classes(1).is_letter(ord("D"))
    assert Classes(1).is_marker(0x7F)
    assert not Classes(0).is_marker(0x7F)


@pytest.mark.parametrize(
    "name", ["english-8000-clean-v1", "english-8000-consistent-nocapcode-v1", "sample-2048-balanced.vocab"]
)
def test_a_published_table_follows_from_its_tokens(published, name):
    vocab = published(name)
    bare = [token._replace(score=0.0) for token in primary_tokens(vocab.records)]
    records, begin_byte = build_records(bare, vocab.settings)
    assert begin_byte == vocab.begin_byte
    assert [r[:6] for r in records] == [r[:6] for r in vocab.records]
