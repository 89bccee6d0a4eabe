"""The reference's names, there and back; and its checkpoints are read like any other."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save

from stentor.artifacts import staged_directory, write_file
from stentor.errors import UserError
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.model.presets import preset
from stentor.model.reference_layout import from_reference, is_reference, to_reference


@pytest.fixture
def tensors(tiny_config) -> dict[str, torch.Tensor]:
    model = Llama(tiny_config)
    initialize(model, seed=3)
    return to_hugging_face(tiny_config, model.state_dict())


def test_block_projections_are_masters_and_nothing_else_is(tensors):
    renamed = to_reference(tensors)
    masters = {name for name in renamed if name.endswith(".weight_master")}
    assert len(masters) == 2 * 7
    assert "model.layers.0.self_attn.q_proj.weight_master" in masters
    assert "model.layers.1.mlp.down_proj.weight_master" in masters
    assert {name for name in renamed if name not in masters} == {
        name for name in tensors if "proj" not in name
    }  # fmt: skip


def test_the_reference_has_84_masters():
    config = preset("stentor2-12m")
    model = Llama(config)
    names = to_reference(to_hugging_face(config, model.state_dict()))
    assert sum(name.endswith("weight_master") for name in names) == 12 * 7


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.module."])
def test_there_and_back(tensors, prefix):
    stored = {prefix + name: tensor for name, tensor in to_reference(tensors).items()}
    for name in list(stored):
        if name.endswith("weight_master"):
            base = name.removesuffix("weight_master")
            stored |= {f"{base}weight_scale": torch.ones(1), f"{base}weight_zero_point": torch.zeros(1)}
    assert is_reference(stored)
    back = from_reference(stored, origin="here")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_a_plain_checkpoint_is_no_reference(tensors):
    assert not is_reference(tensors)


def test_a_weight_beside_its_master_is_refused(tensors):
    name = "model.layers.0.self_attn.q_proj"
    stored = {**to_reference(tensors), f"{name}.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=f"{name}.weight twice"):
        from_reference(stored, origin="here")


def test_a_folder_in_the_reference_layout_is_read(tensors, tiny_config, tiny_tokenizer, tmp_path):
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors, tiny_tokenizer)
    weights = tmp_path / "model" / "model.safetensors"
    stored = {f"_orig_mod.{name}": tensor for name, tensor in to_reference(load_file(weights)).items()}
    write_file(weights, save(stored))
    (tmp_path / "model" / "manifest.json").unlink()  # the reference's author has none
    read = read_model_folder(tmp_path / "model").tensors
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_a_master_that_is_missing_is_named(tensors, tiny_config, tiny_tokenizer, tmp_path):
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors, tiny_tokenizer)
    stored = to_reference(tensors)
    del stored["model.layers.1.mlp.up_proj.weight_master"]
    write_file(tmp_path / "model" / "model.safetensors", save(stored))
    with pytest.raises(UserError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight"):
        read_model_folder(tmp_path / "model")
