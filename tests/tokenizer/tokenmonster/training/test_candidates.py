"""Counted substrings against plain counting, on any text."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.tokenizer.tokenmonster.records import Classes
from stentor.tokenizer.tokenmonster.training import candidates as module
from stentor.tokenizer.tokenmonster.training.candidates import Candidates, find_candidates
from stentor.tokenizer.tokenmonster.training.filters_reference import MODES, Filter, is_latin
from stentor.tokenizer.tokenmonster.training.text import prepare_texts
from stentor.tokenizer.tokenmonster.unicode13 import runes


def slowly(documents: list[bytes], mode: str, level: int, enough: int, *, valid: bool, latin: bool) -> dict[bytes, int]:
    """Count every substring of prepared documents where the mode wants it."""
    counts, rules = Counter[bytes](), Filter(mode, level)
    for document in documents:
        for start in range(len(document)):
            for length in range(2, min(40, len(document) - start) + 1):
                candidate, rest = document[start : start + length], document[start + length :]
                follower = next(runes(rest))[1] if rest else b""
                counts[candidate] += b"\0" not in candidate and rules.accepts(candidate, follower)
    kept = {candidate: count for candidate, count in counts.items() if count >= enough}
    if valid:
        kept = {c: count for c, count in kept.items() if all(code != 0xFFFD or len(raw) > 1 for code, raw in runes(c))}
    if latin:
        kept = {candidate: count for candidate, count in kept.items() if is_latin(candidate)}
    prefix, classes = (b"", b"\x7f ", b"D ")[level], Classes(level)
    stripped: dict[bytes, int] = {}
    for candidate, count in kept.items():
        inner = candidate[len(prefix) :]
        if not (level and candidate.startswith(prefix) and inner and classes.is_either(next(runes(inner))[0])):
            stripped[candidate] = max(count, stripped.get(candidate, 0)) if candidate not in kept else count
        elif len(inner) > 1 and inner not in kept:
            stripped[inner] = count
    return stripped


def as_dict(found: Candidates, data: np.ndarray) -> dict[bytes, int]:
    spelt = [data[start : start + length].tobytes() for start, length in zip(*found[:2], strict=True)]
    assert len(set(spelt)) == len(spelt)
    return dict(zip(spelt, found.counts.tolist(), strict=True))


def both(texts: list[str], mode: str, level: int, enough: int, *, valid: bool = True, latin: bool = True):
    prepared = prepare_texts(texts, capcode=level, num_workers=1)
    rules: dict[str, Any] = {"mode": MODES.index(mode), "capcode": level, "min_occurrences": enough}
    found = find_candidates(prepared, **rules, only_valid=valid, only_latin=latin)
    documents = [prepared.data[a : b - 1].tobytes() for a, b in zip(prepared.starts, prepared.starts[1:], strict=False)]
    return as_dict(found, prepared.data), slowly(documents, mode, level, enough, valid=valid, latin=latin)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_substring_is_counted_where_it_is_wanted(mode, level, texts):
    found, expected = both(texts[:5], mode, level, 2)
    assert found == expected
    assert len(found) > 50


@settings(max_examples=60)
@given(
    st.lists(st.text("ab AB1.\n\0\u00e9\u0416\u4e2d'", max_size=40), min_size=1, max_size=4),
    st.sampled_from(MODES),
    st.integers(0, 2),
    st.integers(2, 3),
    st.booleans(),
    st.booleans(),
)
def test_any_text(documents, mode, level, enough, valid, latin):
    if any(documents):
        found, expected = both(documents, mode, level, enough, valid=valid, latin=latin)
        assert found == expected


def test_the_batches_and_threads_do_not_matter(prepared, monkeypatch):
    rules: dict[str, Any] = {"mode": 2, "capcode": 2, "min_occurrences": 3}
    whole = find_candidates(prepared, **rules)
    monkeypatch.setattr(module, "_BATCH_POSITIONS", 500)
    shown = []
    parts = find_candidates(prepared, **rules, num_workers=3, on_progress=lambda *progress: shown.append(progress))
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert len(shown) > 5
    assert shown[-1][0] == shown[-1][1]


def test_long_repetitions_are_counted_to_the_longest_token():
    prepared = prepare_texts(["x" * 3000], capcode=0, num_workers=1)
    found = as_dict(find_candidates(prepared, mode=0, capcode=0, min_occurrences=2), prepared.data)
    assert found == {b"x" * length: 3001 - length for length in range(2, 41)}


def test_no_candidate_reaches_into_the_next_document():
    prepared = prepare_texts(["ab"] * 9, capcode=0, num_workers=1)
    found = find_candidates(prepared, mode=0, capcode=0, min_occurrences=2)
    assert as_dict(found, prepared.data) == {b"ab": 9}


def test_nothing_occurs_often_enough():
    prepared = prepare_texts(["abc"], capcode=2, num_workers=1)
    assert find_candidates(prepared, mode=2, capcode=2, min_occurrences=2).starts.size == 0
