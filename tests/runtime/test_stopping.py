"""Stop strings: whatever the pieces, the text is cut where the whole text would be, and no part of one leaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stentor.runtime.stopping import StopStrings

LETTERS = st.text(alphabet="ab\n", max_size=30)


def cut_at_first_stop(text: str, stops: list[str]) -> str:
    """The slow twin: where the first stop string to be complete begins, in the whole text."""
    for end in range(len(text) + 1):
        begins = [text[:end].find(stop) for stop in stops if stop and stop in text[:end]]
        if begins:
            return text[: min(begins)]
    return text


def pushed(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    stopper, shown = StopStrings(stops), []
    for piece in pieces:
        shown.append(stopper.push(piece))
        if stopper.reached:
            return "".join(shown), True
    return "".join(shown) + stopper.finish(), False


@given(LETTERS, st.lists(st.text(alphabet="ab\n", max_size=4), max_size=3))
def test_letter_by_letter_equals_the_slow_twin(text, stops):
    shown, reached = pushed(list(text), stops)
    assert shown == cut_at_first_stop(text, stops)
    assert reached == any(stop and stop in text for stop in stops)


@given(st.lists(LETTERS, max_size=8), st.text(alphabet="ab\n", min_size=1, max_size=4))
def test_pieces_do_not_matter_for_one_stop(pieces, stop):
    shown, _ = pushed(pieces, [stop])
    assert shown == "".join(pieces).partition(stop)[0]


def test_nothing_is_held_back_without_need():
    stopper = StopStrings(["END"])
    assert stopper.push("the E") == "the "
    assert stopper.push("lk") == "Elk"
    assert stopper.push("EN") == ""
    assert stopper.finish() == "EN"


def test_no_stops_passes_everything():
    stopper = StopStrings([])
    assert stopper.push("abc") == "abc"
    assert stopper.finish() == ""
    assert not stopper.reached


def test_an_empty_stop_is_ignored():
    assert pushed(["ab"], [""]) == ("ab", False)
