"""How commands speak: answers, tables, sizes and times."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.cli.output import answer, columns, duration, short_names, size, table, talk


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500, "1.5 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (999_999_999, "1.00 GB"),
        (1_234_567, "1.2 MB"),
        (5_000_000_000, "5.00 GB"),
        (12_345_678_901_234, "12345.68 GB"),
    ],
)
def test_sizes(num_bytes, expected):
    assert size(num_bytes) == expected


@given(st.integers(0, 10**14))
def test_sizes_are_never_written_with_more_than_three_places_below_a_gigabyte(num_bytes):
    number, unit = size(num_bytes).split()
    assert float(number) < 1000 or unit == "GB"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3660, "1 h 01 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_times(seconds, expected):
    assert duration(seconds) == expected


def test_tables_align_their_values():
    assert table({"a": 1, "long name": "two"}) == "a          1\nlong name  two"


def test_answers_are_on_stdout_and_talk_is_on_stderr(capsys):
    value = {"text": "caf\u00e9 \U0001f600\n", "number": 0.1, "none": None}
    answer("for people", value, as_json=False)
    answer("for people", value, as_json=True)
    talk("for the impatient")
    captured = capsys.readouterr()
    people, programs = captured.out.splitlines()
    assert people == "for people"
    assert json.loads(programs) == value
    assert programs.isascii()
    assert captured.err == "for the impatient\n"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/tok", "b/other/"], ["tok", "other"]),
        (["a/tok", "b/tok"], ["a/tok", "b/tok"]),
        (["x.vocab", "tokenmonster:english-8000-clean-v1"], ["x", "english-8000-clean-v1"]),
        (["run/model/tokenizer.json", "tokenizer.json"], ["model", "tokenizer.json"]),
        (["t", "t", "u"], ["t (1)", "t (2)", "u"]),
        (["."], ["."]),
    ],
)
def test_names_are_short_but_never_the_same(paths, names):
    assert short_names(paths) == names


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("", ["a", "second"]), ("steps", ["1,000", "2"]), ("", []), ("settings", []), ("  lr", ["0.1", "-"])]
    assert columns(rows).splitlines() == [
        "              a  second",
        "steps     1,000       2",
        "",
        "settings",
        "  lr        0.1       -",
    ]
