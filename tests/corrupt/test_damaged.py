"""Damaged files of every format: each is refused in one sentence or provably harmless; none crashes or hangs."""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest
from damage import damaged_bytes, damaged_json
from formats import FORMATS, SLOW_FORMATS, Format
from rules import differing
from trial import HARMLESS, OTHER, REFUSED, Tally, judged, try_all

LEAST = 500
pytestmark = pytest.mark.skipif(os.name == "nt", reason="waiting for another process needs POSIX here")


def require_sound(tallies: dict[str, Tally]) -> Counter[str]:
    """Require that every file ended as it should, and return how many ended in which way."""
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    assert not failures, f"{len(failures)} files, such as:\n" + "\n".join(failures[:20])
    totals = sum((tally.by_outcome() for tally in tallies.values()), Counter())
    assert totals.keys() <= {REFUSED, HARMLESS, OTHER}
    return totals


def test_every_damaged_file_is_refused_or_harmless(tmp_path):
    tallies = try_all(FORMATS, tmp_path, seeds=[0], count=2)
    totals = require_sound(tallies)
    assert totals.total() >= LEAST
    assert totals[REFUSED] > 0.6 * totals.total()
    for name, tally in tallies.items():
        assert tally.outcomes.total() >= 10, name
        if name.endswith(", sealed"):
            outcome = HARMLESS if "generation_config" in name else REFUSED  # which Stentor does not read
            assert tally.by_outcome().keys() == {outcome}, name
    kinds = {kind for tally in tallies.values() for kind, _ in tally.outcomes}
    assert kinds >= {"truncated", "flipped", "extended", "zero-filled", "swapped", "absurd count", "newer version"}
    assert kinds >= {"path traversal", "pickled", "duplicate key", "deep nesting", "missing field", "wrong type"}


@pytest.mark.slow
def test_more_of_them(tmp_path):
    require_sound(try_all(FORMATS, tmp_path, seeds=range(1, 6), count=5))


@pytest.mark.slow
def test_what_transformers_opens(tmp_path):
    require_sound(try_all(SLOW_FORMATS, tmp_path, seeds=[0], count=2))


# --- the checks themselves ---


def test_the_same_seed_gives_the_same_files():
    data = b'{"a": 1, "b": {"c": [1, 2, "x"]}}'
    for make in (damaged_bytes, damaged_json):
        first, again, other = (list(make(data, Random(seed), 3)) for seed in (7, 7, 8))
        assert first == again != other
        assert all(damaged.data != data for damaged in first if damaged.kind in ("truncated", "extended"))


FORMAT = Format(name="it", folder="f", file="it.json", door="d")
REFUSAL = {"outcome": "refused", "kind": "UserError", "message": "/f/it.json is damaged", "fix": "make it again"}


@pytest.mark.parametrize(
    ("report", "outcome", "fault"),
    [
        (REFUSAL, REFUSED, ""),
        ({**REFUSAL, "message": "it is damaged"}, REFUSED, "names neither"),
        ({**REFUSAL, "message": "it.json is damaged\n"}, REFUSED, "no sentence"),
        ({**REFUSAL, "message": "it.json" * 1000}, REFUSED, "no sentence"),
        ({**REFUSAL, "fix": ""}, REFUSED, "no sentence"),
        ({**REFUSAL, "kind": "MissingDependencyError"}, REFUSED, "refused as Missing"),
        ({"outcome": "raised", "message": "KeyError"}, "raised", "KeyError"),
        ({"outcome": "hung"}, "hung", "hung"),
        ({"outcome": "died", "code": -11}, "died", "-11"),
        ({"outcome": "opened", "content": {"a": "1", "b": "2"}}, HARMLESS, ""),
        ({"outcome": "opened", "content": {"a": "1", "b": "3"}}, "wrong", "['b']"),
        ({"outcome": "opened", "content": {"a": "1"}}, "wrong", "['b']"),
    ],
)
def test_what_came_of_a_file_is_judged(tmp_path, report, outcome, fault):
    path = tmp_path / "f" / "it.json"
    found = judged(report, FORMAT, path, b"sound", b"damaged", {"a": "1", "b": "2"})
    assert found[0] == outcome
    assert (fault in found[1]) if fault else not found[1]


def test_parts_that_differ():
    assert differing({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == {"a", "b", "c"}
