"""The held-out split is stable, and no text is ever on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.text.document import Document, Tally
from stentor.text.split import TRAIN, VALIDATION, HeldOut, Splitter, digest_of


def documents(texts: list[str]) -> list[Document]:
    return [Document(text, str(index), "source") for index, text in enumerate(texts)]


def sides(spec: str, texts: list[str], tally: Tally | None = None) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {TRAIN: [], VALIDATION: []}
    splitter = Splitter(HeldOut.parse(spec), tally or Tally())
    for side, document in splitter.split(documents(texts)):
        result[side].append(document.text)
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("take:2000", HeldOut("take", count=2000)),
        ("hash:0.02", HeldOut("hash", fraction=0.02)),
        ("file:a/b.jsonl.zst", HeldOut("file", spec="a/b.jsonl.zst")),
        ("file:hf:NAME:CONFIG:test", HeldOut("file", spec="hf:NAME:CONFIG:test")),
        (" take:1 ", HeldOut("take", count=1)),
    ],
)
def test_parse(text, expected):
    assert HeldOut.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "take",
        "take:",
        "take:0",
        "take:-1",
        "take:1.5",
        "take:\xb2",
        "hash:0",
        "hash:1",
        "hash:nan",
        "hash:x",
        "file:",
        "5",
    ],
)
def test_mistakes_are_refused_with_the_ways_to_write_it(text):
    with pytest.raises(UserError, match=r"text\.validation") as caught:
        HeldOut.parse(text)
    assert "take:" in caught.value.fix


def test_misspelt_kind_suggests_the_nearest():
    with pytest.raises(UserError) as caught:
        HeldOut.parse("hahs:0.1")
    assert "did you mean 'hash'?" in caught.value.fix


def test_take_holds_out_the_first_new_documents():
    tally = Tally()
    result = sides("take:2", ["a", "a", "b", "c", "a", "c", "d"], tally)
    assert result == {VALIDATION: ["a", "b"], TRAIN: ["c", "d"]}
    assert tally.dropped_documents == {"duplicate": 2, "in_validation": 1}


def test_hash_is_golden():
    # The split of published corpora must not move: these sides are for ever.
    texts = [f"document number {index}" for index in range(40)]
    held_out = sides("hash:0.1", texts)[VALIDATION]
    assert held_out == ["document number 1", "document number 13", "document number 27", "document number 28"]


def test_hash_share_is_about_the_fraction():
    texts = [str(index) for index in range(20_000)]
    assert 0.045 < len(sides("hash:0.05", texts)[VALIDATION]) / len(texts) < 0.055


@given(st.lists(st.text(max_size=3), max_size=60), st.randoms(use_true_random=False))
def test_hash_side_depends_on_the_text_alone(texts, random):
    shuffled = list(texts)
    random.shuffle(shuffled)
    first, second = sides("hash:0.4", texts), sides("hash:0.4", shuffled)
    assert set(first[TRAIN]) == set(second[TRAIN])
    assert set(first[VALIDATION]) == set(second[VALIDATION])


@given(st.sampled_from(["take:3", "hash:0.3", "file:none.txt"]), st.lists(st.text(max_size=2), max_size=60))
def test_each_text_is_kept_once_on_one_side_and_the_rest_is_counted(spec, texts):
    tally = Tally()
    result = sides(spec, texts, tally)
    kept = result[TRAIN] + result[VALIDATION]
    assert len(kept) == len(set(kept))
    assert set(kept) == set(texts)
    assert len(kept) + tally.dropped_documents.total() == len(texts)


def test_texts_of_a_held_out_file_never_train():
    tally = Tally()
    splitter = Splitter(HeldOut.parse("file:val.txt"), tally)
    splitter.hold_out("b")
    kept = [(side, document.text) for side, document in splitter.split(documents(["a", "b", "a", "c", "b"]))]
    assert kept == [(TRAIN, "a"), (TRAIN, "c")]
    assert tally.dropped_documents == {"in_validation": 2, "duplicate": 1}


def test_digest_takes_any_string():
    assert digest_of("a\ud800") == digest_of("a?")
    assert len({digest_of(text) for text in ["", "a", "b", "ab"]}) == 4
