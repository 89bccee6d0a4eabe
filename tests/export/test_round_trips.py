"""Models that leave in one format and come back in another: the same numbers, to the bit where the format is exact."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import stentor
from stentor.export import gguf, huggingface
from stentor.export.gguf import export_gguf
from stentor.export.huggingface import export_huggingface
from stentor.export.quantize import as_stored
from stentor.export.reference import export_reference
from stentor.model.folder import read_model_folder
from stentor.model.reference_layout import to_reference

WEIGHTS = "model.safetensors"
DTYPES = ["float32", "float16", "q8_0", "q5_0", "q4_0"]


@pytest.fixture
def unproven(monkeypatch):
    """Leave the consumers out: other tests ask them, these are about the files."""
    for module in (gguf, huggingface):
        monkeypatch.setattr(module, "is_installed", lambda *_, **__: False)


def text_and_logits(path):
    model = stentor.load(path, dtype="float32", num_threads=1)
    text = model.generate("Rivers carry", max_new_tokens=24, temperature=0, repetition_penalty=1)
    return text, model.network.extend(list(range(40)), 0, all_scored=True)


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_a_folder_and_its_gguf_file_write_the_same_text(models, tmp_path, name):
    """With float32 there is nothing to round; with float16 the folder is given the weights that the file can hold."""
    export_gguf(models[name], tmp_path / "m.gguf", dtype="float32")
    for found, expected in zip(text_and_logits(tmp_path / "m.gguf"), text_and_logits(models[name]), strict=True):
        assert np.array_equal(found, expected)
    export_gguf(models[name], tmp_path / "half.gguf", dtype="float16")
    tensors = read_model_folder(models[name]).tensors
    for key, tensor in read_model_folder(tmp_path / "half.gguf").tensors.items():
        kept = tensors[key] if tensor.ndim == 1 else torch.from_numpy(as_stored(tensors[key].numpy(), "float16"))
        assert torch.equal(tensor, kept), key


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_a_gguf_file_becomes_a_folder_and_the_same_gguf_file_again(models, tmp_path, name, dtype):
    """Blocks are exact too: a scale is an exact multiple of the largest value, and is found again from it."""
    first, folder, second = tmp_path / "a" / "m.gguf", tmp_path / "folder", tmp_path / "b" / "m.gguf"
    export_gguf(models[name], first, dtype=dtype)
    export_huggingface(first, folder)
    export_gguf(folder, second, dtype=dtype)
    assert second.read_bytes() == first.read_bytes()


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("name", ["llama", "untied"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_the_references_layout_is_repaired_to_the_original_bits(models, tmp_path, name, prefix):
    export_reference(models[name], tmp_path / "reference")
    stored = {prefix + key: tensor for key, tensor in load_file(tmp_path / "reference" / WEIGHTS).items()}
    shutil.copytree(tmp_path / "reference", tmp_path / "wrapped")
    (tmp_path / "wrapped" / "manifest.json").unlink()
    save_file(stored, tmp_path / "wrapped" / WEIGHTS)
    assert len(stored) == len(to_reference(load_file(models[name] / WEIGHTS)))
    export_huggingface(tmp_path / "wrapped", tmp_path / "repaired")
    assert (tmp_path / "repaired" / WEIGHTS).read_bytes() == (models[name] / WEIGHTS).read_bytes()
