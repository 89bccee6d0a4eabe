"""Weights are laid out without loss: taken apart again, they are what went in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.model.config import ModelConfig
from stentor.runtime.packing import MAX_PARTS, byte_panels, float_panels, pack, rounded_rows

CONFIG = ModelConfig(
    vocab_size=101,
    hidden_size=40,
    intermediate_size=70,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
    max_position_embeddings=30,
    carrier="qwen3",
)


def tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    query, key = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (config.vocab_size, hidden), "model.norm": (hidden,)}
    for layer in range(config.num_hidden_layers):
        of_layer = {
            "self_attn.q_proj": (query, hidden), "self_attn.k_proj": (key, hidden), "self_attn.v_proj": (key, hidden),
            "self_attn.o_proj": (hidden, query), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
            "self_attn.q_norm": (config.head_dim,), "self_attn.k_norm": (config.head_dim,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in of_layer.items()}
    return {f"{name}.weight": random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_panels_hold_every_weight_once(panels, columns, seed):
    whole = np.random.default_rng(seed).integers(-127, 128, (64 * panels, 4 * columns)).astype(np.int8)
    laid = byte_panels(whole).reshape(panels, columns, 64, 4)
    for row, column in ((0, 0), (64 * panels - 1, 4 * columns - 1), (37, 2)):
        assert int(laid[row // 64, column // 4, row % 64, column % 4]) - 128 == whole[row, column]
    matrix = whole.astype(np.float32)
    floats = float_panels(matrix).view(np.float32).reshape(panels, 4 * columns, 64)
    assert np.array_equal(floats.transpose(0, 2, 1).reshape(matrix.shape), matrix)


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1e4))
@settings(max_examples=30)
def test_rows_are_rounded_by_at_most_half_a_step(seed, size):
    matrix = (np.random.default_rng(seed).standard_normal((5, 48)) * size).astype(np.float32)
    whole, scales = rounded_rows(matrix)
    assert np.abs(whole).max(axis=1).tolist() == [127] * 5
    assert (np.abs(whole * scales[:, None] - matrix) <= 0.5001 * scales[:, None]).all()


@pytest.mark.parametrize(("keys", "parts"), [(1, 1), (2, 2), (4, 4), (8, 4), (5, 1), (6, 3)])
def test_parts_have_equal_shares_of_the_heads(keys, parts):
    config = dataclasses.replace(CONFIG, num_key_value_heads=keys, num_attention_heads=2 * keys, head_dim=4)
    network = pack(config, tensors(config), dtype="int8", has_byte_cache=True).network
    assert network.num_parts == parts <= MAX_PARTS
    assert network.num_key_heads * parts == keys
    assert network.num_heads * parts == 2 * keys


def test_sizes_are_padded_and_the_true_ones_kept():
    network = pack(CONFIG, tensors(CONFIG), dtype="float32", has_byte_cache=False).network
    assert (network.hidden_size, network.true_hidden_size) == (64, 40)
    assert (network.head_dim, network.true_head_dim) == (32, 10)
    assert network.inner_size == 64
    assert network.vocab_size == 2 * 64
    assert network.has_head_norms


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_places_name_matrices_that_do_not_overlap(dtype):
    packed = pack(CONFIG, tensors(CONFIG), dtype=dtype, has_byte_cache=False)
    _, panels, scales, places, head_places, *_ = packed.arrays
    starts = [*places.reshape(-1, 2).tolist(), *head_places[:, :2].tolist()]
    assert starts == sorted(starts)
    assert len({tuple(start) for start in starts}) == len(starts)
    assert starts[-1][0] < len(panels)
    assert head_places[-1, 1] + head_places[-1, 3] == len(scales)
    assert head_places[:, 2].tolist() == [0, 64]
    assert packed.network.panels % 64 == 0, "panels begin where cache lines do"


def test_the_first_matrix_is_queries_keys_and_values_of_the_first_part_with_the_gain():
    given_tensors = tensors(CONFIG)
    packed = pack(CONFIG, given_tensors, dtype="float32", has_byte_cache=False)
    rows = 128  # two heads of queries, one of keys, one of values, each padded to 32
    matrix = packed.arrays[1][: 4 * rows * 64].view(np.float32).reshape(rows // 64, 64, 64)
    matrix = matrix.transpose(0, 2, 1).reshape(rows, 64)
    gain = given_tensors["model.layers.0.input_layernorm.weight"]
    query = given_tensors["model.layers.0.self_attn.q_proj.weight"] * gain
    value = given_tensors["model.layers.0.self_attn.v_proj.weight"] * gain
    assert np.array_equal(matrix[:5, :40], query[:5]), "the first half of the first head"
    assert np.array_equal(matrix[16:21, :40], query[5:10]), "its second half begins where 16 do"
    assert np.array_equal(matrix[96:101, :40], value[:5])
    assert not matrix[5:16].any()
    assert not matrix[:, 40:].any()


def test_angles_are_those_of_the_network_in_torch():
    from stentor.model.llama import rotary_tables

    packed = pack(CONFIG, tensors(CONFIG), dtype="float32", has_byte_cache=False)
    table = packed.arrays[-1]
    cosines, sines = rotary_tables(CONFIG)
    np.testing.assert_allclose(table[:, 0, :5], cosines[:, :5], atol=2e-6)
    np.testing.assert_allclose(table[:, 1, :5], sines[:, :5], atol=2e-6)
