"""Documents know their size; the tally loses nothing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.text.document import Document, Tally


def document(text: str) -> Document:
    return Document(text, "id", "source")


@given(st.text())
def test_size_is_that_of_utf8(text):
    assert document(text).num_bytes == len(text.encode(errors="replace"))


def test_size_counts_a_lone_surrogate_as_its_replacement():
    assert document("a\ud800b").num_bytes == 3


def test_documents_are_frozen_and_compare_by_value():
    assert document("a") == document("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        document("a").text = "b"  # pyright: ignore[reportAttributeAccessIssue]


def test_new_tally_is_empty():
    tally = Tally()
    assert tally.num_read == 0
    assert tally.reasons() == "none"
    assert tally.summary() == {
        "kept": {"num_documents": 0, "num_text_bytes": 0},
        "dropped": {},
        "repaired": {},
        "notes": [],
    }


def test_tally_counts_documents_and_bytes_by_reason():
    tally = Tally()
    tally.kept(document("kept"))
    tally.dropped("too_short", document("\xe9"))
    tally.dropped("too_short", document("ab"))
    tally.dropped_bytes("bad_json", 7)
    tally.repaired("invalid_utf8")
    tally.note("a source ended")

    assert tally.num_read == 4
    assert tally.reasons() == "1 bad_json, 2 too_short"
    assert tally.summary() == {
        "kept": {"num_documents": 1, "num_text_bytes": 4},
        "dropped": {
            "bad_json": {"num_documents": 1, "num_text_bytes": 7},
            "too_short": {"num_documents": 2, "num_text_bytes": 4},
        },
        "repaired": {"invalid_utf8": 1},
        "notes": ["a source ended"],
    }


@given(st.lists(st.tuples(st.sampled_from(["kept", "duplicate", "empty"]), st.text(max_size=20))))
def test_every_document_is_counted_once(events):
    tally = Tally()
    for fate, text in events:
        if fate == "kept":
            tally.kept(document(text))
        else:
            tally.dropped(fate, document(text))
    summary = tally.summary()
    total_bytes = summary["kept"]["num_text_bytes"] + sum(d["num_text_bytes"] for d in summary["dropped"].values())
    assert tally.num_read == len(events)
    assert total_bytes == sum(document(text).num_bytes for _, text in events)
