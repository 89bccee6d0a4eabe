"""Opening a model says why it takes long, and only where it does."""

from __future__ import annotations

import time

import pytest

from stentor.cli import engine_options
from stentor.cli.engine_options import STILL_LOADING, load_model
from stentor.errors import UserError
from stentor.runtime import engine


@pytest.mark.parametrize(("seconds", "told"), [(0.0, ""), (0.3, f"{STILL_LOADING}\n")])
def test_who_waits_is_told_why(monkeypatch, capsys, seconds, told):
    monkeypatch.setattr(engine_options, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(engine, "load", lambda model, **options: (time.sleep(seconds), model, options)[1:])
    assert load_model("somewhere", dtype="int8") == ("somewhere", {"dtype": "int8"})
    time.sleep(0.1)
    assert capsys.readouterr().err == told


def test_a_refusal_is_the_last_word(monkeypatch, capsys):
    monkeypatch.setattr(engine_options, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(UserError, match="there is no model"):
        load_model("nowhere/at/all/here", dtype="int8", cache_dtype="int8", num_threads=1, device="cpu")
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
