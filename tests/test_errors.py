"""Errors say what, where and how to mend it, and carry the exit code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import (
    CorruptArtifactError,
    InterruptedRunError,
    MissingDependencyError,
    StentorError,
    UsageError,
    UserError,
    missing_extra,
    nearest_name,
)


def test_message_and_fix_are_printed_on_two_lines():
    error = UserError("the corpus is empty", fix="add text")
    assert str(error) == "the corpus is empty\n  fix: add text"
    assert (error.message, error.fix) == ("the corpus is empty", "add text")
    assert str(UserError("the corpus is empty")) == "the corpus is empty"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UserError, 3),
        (CorruptArtifactError, 3),
        (UsageError, 2),
        (MissingDependencyError, 4),
        (InterruptedRunError, 130),
    ],
)
def test_exit_codes(kind, code):
    assert issubclass(kind, StentorError)
    assert kind("x").exit_code == code


def test_corrupt_artifacts_are_bad_input():
    assert issubclass(CorruptArtifactError, UserError)


def test_missing_extra_names_package_and_command():
    error = missing_extra("pyarrow", "data", needed_for="reading .parquet")
    assert isinstance(error, MissingDependencyError)
    assert str(error) == (
        "reading .parquet needs the package 'pyarrow', which is not installed\n  fix: pip install 'stentor[data]'"
    )


def test_nearest_name():
    assert nearest_name("trian", ["train", "text"]) == "did you mean 'train'?"
    assert nearest_name("zzz", iter(["b", "a"])) == "known: a, b"


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_nearest_name_always_offers_something_known(name, known):
    hint = nearest_name(name, known)
    assert any(repr(candidate) in hint or candidate in hint for candidate in known)
