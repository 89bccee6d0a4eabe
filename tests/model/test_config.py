"""Shapes: what is refused, and the count of parameters against a plain addition over the tensors."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.model.config import CARRIERS, EMBEDDING_MULTIPLE, ModelConfig, padded_vocab_size


def tensor_sizes(config: ModelConfig) -> dict[str, int]:
    """List every tensor of the Hugging Face checkpoint with its number of values: the slow twin."""
    hidden, head = config.hidden_size, config.head_dim
    sizes = {"model.embed_tokens.weight": config.vocab_size * hidden, "model.norm.weight": hidden}
    if not config.tie_word_embeddings:
        sizes["lm_head.weight"] = config.vocab_size * hidden
    for index in range(config.num_hidden_layers):
        layer = {
            "self_attn.q_proj": config.num_attention_heads * head * hidden,
            "self_attn.k_proj": config.num_key_value_heads * head * hidden,
            "self_attn.v_proj": config.num_key_value_heads * head * hidden,
            "self_attn.o_proj": hidden * config.num_attention_heads * head,
            "mlp.gate_proj": config.intermediate_size * hidden,
            "mlp.up_proj": config.intermediate_size * hidden,
            "mlp.down_proj": hidden * config.intermediate_size,
            "input_layernorm": hidden,
            "post_attention_layernorm": hidden,
        }
        if config.carrier == "qwen3":
            layer |= {"self_attn.q_norm": head, "self_attn.k_norm": head}
        sizes |= {f"model.layers.{index}.{name}.weight": size for name, size in layer.items()}
    return sizes


configs = st.builds(
    lambda key_value_heads, groups, half_head, **rest: ModelConfig(
        num_key_value_heads=key_value_heads,
        num_attention_heads=key_value_heads * groups,
        head_dim=2 * half_head,
        **rest,
    ),
    key_value_heads=st.integers(1, 8),
    groups=st.integers(1, 4),
    half_head=st.integers(1, 64),
    carrier=st.sampled_from(CARRIERS),
    vocab_size=st.integers(1, 40_000),
    hidden_size=st.integers(1, 1024),
    intermediate_size=st.integers(1, 4096),
    num_hidden_layers=st.integers(1, 24),
    tie_word_embeddings=st.booleans(),
)


@given(configs)
def test_number_of_parameters_is_the_sum_over_the_tensors(config):
    assert config.num_parameters == sum(tensor_sizes(config).values())


@given(configs)
def test_fields_survive_json(config):
    assert ModelConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_qk_norm_belongs_to_qwen3():
    assert not ModelConfig().has_qk_norm
    qwen3 = ModelConfig(carrier="qwen3")
    assert qwen3.has_qk_norm
    assert qwen3.num_parameters - ModelConfig().num_parameters == 12 * 2 * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"carrier": "lama"}, "no carrier named 'lama'"),
        ({"hidden_size": 0}, "model.hidden_size is 0"),
        ({"hidden_size": -1}, "model.hidden_size is -1"),
        ({"rope_theta": float("nan")}, "model.rope_theta is nan"),
        ({"rms_norm_eps": float("inf")}, "model.rms_norm_eps is inf"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3"),
        ({"num_key_value_heads": 8}, "4 query heads cannot share 8"),
        ({"head_dim": 63}, "head_dim 63 is odd"),
    ],
)
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(UserError) as caught:
        ModelConfig(**changes)
    assert message in caught.value.message
    assert caught.value.fix


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().hidden_size = 5  # type: ignore[misc]


@pytest.mark.parametrize(("num_tokens", "rows"), [(8000, 8064), (2048, 2048), (1, 128), (128, 128), (129, 256)])
def test_padded_vocab_size(num_tokens, rows):
    assert padded_vocab_size(num_tokens) == rows


@given(st.integers(1, 10**6))
def test_padding_is_the_least_multiple_that_fits(num_tokens):
    rows = padded_vocab_size(num_tokens)
    assert rows % EMBEDDING_MULTIPLE == 0
    assert num_tokens <= rows < num_tokens + EMBEDDING_MULTIPLE


def test_shapes_need_no_torch():
    program = "import sys, stentor.model.config, stentor.model.presets, stentor.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
