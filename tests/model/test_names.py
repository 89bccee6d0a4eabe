"""Names and shapes: the very set transformers has, and every mismatch named."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.folder import hugging_face_config
from stentor.model.llama import Llama
from stentor.model.names import EMBEDDING, HEAD, check_tensors, expected_shapes, from_hugging_face, to_hugging_face

CONFIG = ModelConfig(
    vocab_size=19,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    max_position_embeddings=8,
)
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in expected_shapes(CONFIG).items()}


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_names_and_shapes_are_those_of_transformers(carrier, tied):
    config = dataclasses.replace(CONFIG, carrier=carrier, tie_word_embeddings=tied)
    raw = hugging_face_config(config, None, dtype=torch.float32)
    classes = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    config_class, model_class = classes[carrier]
    theirs = {name: tuple(tensor.shape) for name, tensor in model_class(config_class(**raw)).state_dict().items()}
    if tied:
        theirs.pop(HEAD, None)
    assert expected_shapes(config) == theirs


def test_there_and_back(tensors):
    state = from_hugging_face(CONFIG, tensors, origin="x")
    assert {name: tuple(t.shape) for name, t in state.items()} == {
        name: tuple(t.shape) for name, t in Llama(CONFIG).state_dict().items()
    }
    back = to_hugging_face(CONFIG, state)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_merged_rows_stand_where_the_network_reads_them(tensors):
    state = from_hugging_face(CONFIG, tensors, origin="x")
    assert torch.equal(state["qkv_LED"][1, 16:24], tensors["model.layers.1.self_attn.k_proj.weight"])
    assert torch.equal(state["gate_up_LFD"][0, 12:], tensors["model.layers.0.mlp.up_proj.weight"])


def test_a_missing_tensor_is_named(tensors):
    del tensors[UP]
    with pytest.raises(UserError, match=r"there\.safetensors .*missing model\.layers\.1\.mlp\.up_proj\.weight"):
        check_tensors(CONFIG, tensors, origin="there.safetensors")


def test_an_unexpected_tensor_is_named(tensors):
    tensors["model.layers.0.mlp.up_proj.weight_master"] = tensors[UP]
    with pytest.raises(UserError, match=r"unexpected model\.layers\.0\.mlp\.up_proj\.weight_master"):
        check_tensors(CONFIG, tensors, origin="x")


def test_many_names_are_counted(tensors):
    broken = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    with pytest.raises(UserError, match=r"missing .* and 16 more; unexpected .* and 16 more"):
        check_tensors(CONFIG, broken, origin="x")


def test_another_shape_is_named_with_both(tensors):
    tensors[UP] = torch.zeros(12, 9)
    with pytest.raises(UserError, match=r"up_proj\.weight has shape \(12, 9\), its config\.json demands \(12, 8\)"):
        check_tensors(CONFIG, tensors, origin="x")


def test_a_tied_head_may_be_there_if_it_is_the_embedding(tensors):
    check_tensors(CONFIG, {**tensors, HEAD: tensors[EMBEDDING].clone()}, origin="x")
    with pytest.raises(UserError, match=r"differs from the embedding"):
        check_tensors(CONFIG, {**tensors, HEAD: tensors[EMBEDDING] + 1}, origin="x")


def test_a_head_that_is_not_tied_is_demanded(tensors):
    untied = dataclasses.replace(CONFIG, tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"missing lm_head\.weight"):
        check_tensors(untied, tensors, origin="x")
