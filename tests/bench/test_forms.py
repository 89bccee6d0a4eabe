"""Each engine gets the model in its own form; who cannot is named with the reason; nothing stays behind."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from stentor.bench import forms
from stentor.bench.forms import prepared
from stentor.bench.setting import ENGINES
from stentor.model.quantized import as_float32
from stentor.model.weights import Weights, read_weights


def test_every_engine_has_a_form():
    assert set(forms._FORMS) == set(forms._PACKAGES) == set(ENGINES)


def test_forms_hold_the_same_model_and_are_gone_afterwards(tiny_weights, tiny_folder):
    with prepared(tiny_weights, ["stentor", "xllamacpp", "transformers"]) as found:
        assert found.not_measured == {}
        assert found.paths["stentor"] == str(tiny_folder)
        file, folder = Path(found.paths["xllamacpp"]), Path(found.paths["transformers"])
        for path, tolerance in ((file, 0.01), (folder, 0)):
            read = read_weights(path)
            assert read.config == tiny_weights.config
            for name, array in tiny_weights.arrays.items():
                assert np.abs(as_float32(read.arrays[name]) - as_float32(array)).max() <= tolerance
    assert not file.exists()
    assert not folder.exists()


def test_both_llama_cpps_share_a_file(tiny_weights, monkeypatch):
    monkeypatch.setitem(forms._PACKAGES, "llama_cpp", ())
    with prepared(tiny_weights, ["xllamacpp", "llama_cpp"]) as found:
        assert found.paths["xllamacpp"] == found.paths["llama_cpp"]


def test_what_is_not_installed_is_named(tiny_weights, monkeypatch):
    find = importlib.util.find_spec
    absent = {"xllamacpp", "transformers", "torch"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    with prepared(tiny_weights, ["stentor", "xllamacpp", "transformers"]) as found:
        assert list(found.paths) == ["stentor"]
    assert found.not_measured == {
        "xllamacpp": "not installed: xllamacpp, torch",
        "transformers": "not installed: transformers, torch",
    }


def test_a_model_without_a_tokenizer_is_no_gguf(tiny_weights):
    bare: Weights = dataclasses.replace(tiny_weights, tokenizer=None)
    with prepared(bare, ["stentor", "xllamacpp"]) as found:
        assert list(found.paths) == ["stentor"]
        assert "tokenizer" in found.not_measured["xllamacpp"]


def test_a_tokenmonster_model_is_written_with_its_mapping(tiny_weights, tiny_tokenmonster):
    monster = dataclasses.replace(tiny_weights, tokenizer=tiny_tokenmonster)
    with prepared(monster, ["xllamacpp"]) as found:
        assert Path(found.paths["xllamacpp"]).stat().st_size > 10_000


@pytest.mark.parametrize("engine", ["stentor", "xllamacpp"])
def test_a_gguf_file_can_be_measured_too(tiny_weights, tmp_path, engine):
    with prepared(tiny_weights, ["xllamacpp"]) as first:
        (kept := tmp_path / "kept.gguf").write_bytes(Path(first.paths["xllamacpp"]).read_bytes())
    with prepared(read_weights(kept), [engine]) as found:
        assert read_weights(found.paths[engine]).config == tiny_weights.config
