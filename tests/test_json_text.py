"""JSON from outside: read as Python reads it, or refused by one kind of error."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.json_text import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_what_python_reads(value):
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_by_one_kind_of_error(data):
    with contextlib.suppress(ValueError):
        parse_json(data)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":['])
def test_depth_is_refused(opening):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(opening * 200_000)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": [{"c": 1, "a": 2, "a": 3}]}', '{"\\u0061": 1, "a": 2}'])
def test_a_key_that_stands_twice_is_named(text):
    with pytest.raises(ValueError, match="the key 'a' stands twice"):
        parse_json(text)


def test_a_long_key_does_not_flood_the_message():
    with pytest.raises(ValueError, match="stands twice") as caught:
        parse_json("{%s: 1, %s: 2}".replace("%s", '"' + "a" * 10_000 + '"'))
    assert len(str(caught.value)) < 120
