"""Opening a model says why it takes long, and only where it is the CPU's own engine that does."""

from __future__ import annotations

import time

import numpy as np
import pytest

from stentor.cli import engine_options
from stentor.cli.engine_options import STILL_LOADING, load_model
from stentor.errors import UserError
from stentor.runtime import open as opening

ENGINE = {"dtype": None, "cache_dtype": "float32", "num_threads": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(engine_options, "PATIENCE_SECONDS", 0.05)


def slowly(seconds, function):
    """Return a function that first waits."""

    def run(*arguments, **options):
        time.sleep(seconds)
        return function(*arguments, **options)

    return run


@pytest.mark.parametrize(("seconds", "told"), [(0.0, ""), (0.3, f"{STILL_LOADING}\n")])
def test_who_waits_for_the_engine_is_told_why(monkeypatch, capsys, seconds, told):
    monkeypatch.setattr(engine_options, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(opening, "_on_cpu", lambda *_, **__: time.sleep(seconds))
    model = load_model("stentor-12m", **ENGINE)
    assert model.origin is not None
    assert model.tokenizer.vocab_size > 0
    time.sleep(0.3)
    assert capsys.readouterr().err == told


def test_reading_a_model_is_no_compiling(monkeypatch, capsys):
    monkeypatch.setattr(opening, "read_weights", slowly(0.2, opening.read_weights))
    monkeypatch.setattr(opening, "_on_cpu", lambda *_, **__: None)
    load_model("stentor-12m", **ENGINE)
    assert capsys.readouterr().err == ""


def test_a_gpu_compiles_nothing_for_this_cpu(monkeypatch, capsys):
    monkeypatch.setattr(opening, "_device_for", lambda *_: "cuda")
    monkeypatch.setattr(opening, "_in_torch", lambda *_: time.sleep(0.2))
    load_model("stentor-12m", **{**ENGINE, "device": "cuda"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "way"), [("transformers:somewhere", "_in_transformers"), ("x.onnx", "_in_onnxruntime")]
)
def test_other_programs_compile_nothing_for_this_cpu(monkeypatch, capsys, tmp_path, name, way):
    opened = opening.Opened(None, None, tmp_path)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(opening, "find_onnx", lambda path: path if str(path).endswith(".onnx") else None)
    monkeypatch.setattr(opening, way, slowly(0.2, lambda *_, **__: opened))
    assert load_model(name, **ENGINE).origin == tmp_path
    assert capsys.readouterr().err == ""


def test_a_loaded_model_computes(capsys, world):
    model = load_model(str(world.run), **ENGINE)
    assert np.isfinite(model.network.fresh().extend([1, 2], 0)).all()


def test_a_refusal_is_the_last_word(capsys):
    with pytest.raises(UserError, match="there is no model"):
        load_model("nowhere/at/all/here", **{**ENGINE, "dtype": "int8", "cache_dtype": "int8"})
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
