"""Our folders by the rules of two loaders that are not run here: what vLLM and mlx-lm read of a folder, and no more.

Read in their sources in November 2026; docs/compatibility.md says that neither was run.

Reference: mlx-lm, mlx_lm/utils.py load_model, models/llama.py and models/qwen3.py ModelArgs; vLLM,
vllm/transformers_utils/config.py patch_rope_parameters, vllm/model_executor/models/llama.py and qwen3.py.
"""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from stentor.model.folder import read_model_folder
from stentor.model.names import expected_shapes

NEEDED_BY_MLX = {
    "llama": {
        *("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"),
        *("rms_norm_eps", "vocab_size"),
    },
    "qwen3": {
        *("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"),
        *("rms_norm_eps", "vocab_size", "num_key_value_heads", "max_position_embeddings", "rope_theta", "head_dim"),
        "tie_word_embeddings",
    },
}
"""Fields without a default: a config.json that lacks one is an error of mlx-lm's."""


@pytest.fixture(params=["llama", "qwen3", "untied"])
def folder(request, models):
    return models[request.param]


@pytest.fixture
def config(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def stored_names(folder) -> set[str]:
    with safe_open(folder / "model.safetensors", "np") as file:
        return set(file.keys())


def base_by_mlx(config) -> float:
    """Return RoPE's base: its llama file reads `rope_theta` alone, its qwen3 file `rope_parameters` first."""
    if config["model_type"] == "qwen3" and config.get("rope_parameters") is not None:
        return config["rope_parameters"].get("rope_theta", 100000.0)
    return config.get("rope_theta", 10000)


def test_mlx_lm_finds_every_field_and_the_true_base(folder, config):
    ours = read_model_folder(folder).config
    assert NEEDED_BY_MLX[config["model_type"]] <= config.keys()
    assert base_by_mlx(config) == ours.rope_theta != 10000
    assert config.get("rope_scaling") is None
    assert config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"] == ours.head_dim
    assert not config.get("attention_bias", False)
    assert not config.get("mlp_bias", False)
    assert config.get("layer_types") is None
    assert not {"quantization", "quantization_config", "quantize_activations", "model_file", "text_config"} & {*config}


def test_mlx_lm_finds_every_tensor_of_its_strict_loading(folder, config):
    """It takes every `model*.safetensors`, drops a tied head and wants the names of its modules, exactly."""
    assert [path.name for path in folder.glob("model*.safetensors")] == ["model.safetensors"]
    names = stored_names(folder)
    if config.get("tie_word_embeddings", True):
        names.discard("lm_head.weight")
    assert names == set(expected_shapes(read_model_folder(folder).config))


def test_mlx_lm_and_vllm_end_a_text_at_the_models_own_token(folder, config):
    """mlx-lm takes the EOS of generation_config.json where it is not 0, else that of config.json."""
    tokenizer = read_model_folder(folder).require_tokenizer()
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation.get("eos_token_id") or config["eos_token_id"]) == tokenizer.eos_token_id


def test_vllm_finds_its_architecture_and_the_true_base(folder, config):
    """It needs transformers 5, so what counts is `rope_parameters`, whole, with no older spelling against it."""
    ours = read_model_folder(folder).config
    known = {"llama": ["LlamaForCausalLM"], "qwen3": ["Qwen3ForCausalLM"]}
    assert config["architectures"] == known[config["model_type"]]
    rope = config["rope_parameters"]
    assert (rope["rope_type"], rope["rope_theta"]) == ("default", ours.rope_theta)
    assert "type" not in rope
    assert config["rope_theta"] == rope["rope_theta"]
    assert "partial_rotary_factor" not in config
    assert config["hidden_act"] == "silu"
    assert config["head_dim"] == ours.head_dim
    assert config["tie_word_embeddings"] is ours.tie_word_embeddings
    assert config["dtype"] == config["torch_dtype"] == "float32"
    assert "auto_map" not in config


def test_vllm_finds_every_shard_of_the_matrices_it_merges(folder):
    """It merges q, k and v, and gate and up, by these very names; a name that it does not know is an error."""
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
    names = stored_names(folder)
    for layer in range(read_model_folder(folder).config.num_hidden_layers):
        assert {f"model.layers.{layer}.{part}.weight" for part in parts} <= names
    assert not any("rotary_emb" in name or name.endswith(".bias") for name in names)


def test_the_check_of_the_base_sees_a_config_of_transformers_5_alone(config):
    alone = {key: value for key, value in config.items() if key != "rope_theta"}
    assert base_by_mlx({**alone, "model_type": "llama"}) == 10000
