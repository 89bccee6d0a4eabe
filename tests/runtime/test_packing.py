"""Weights are laid out without loss: taken apart again, they are what went in."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from stentor.model.config import ModelConfig
from stentor.model.quantized import BLOCK_DTYPES, Quantized
from stentor.runtime.packing import MAX_PARTS, pack

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


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_places_name_matrices_that_do_not_overlap(dtype):
    packed = pack(CONFIG, tensors(CONFIG), dtype=dtype, has_byte_cache=False)
    _, _, panels, scales, places, head_places, *_ = packed.arrays
    starts = [*places[..., 0].ravel().tolist(), *head_places[:, 0].tolist()]
    assert starts == sorted(set(starts))
    assert starts[-1] < len(panels)
    assert head_places[:, 2].tolist() == [0, 64]
    assert packed.network.panels % 64 == 0, "panels begin where cache lines do"
    if dtype == "int8":
        rows = [*places[..., 1].ravel().tolist(), *head_places[:, 1].tolist()]
        assert rows == sorted(set(rows))
    assert len(scales) == (head_places[-1, 1] + head_places[-1, 3] if dtype != "float32" else 0)


def test_four_bits_are_half_of_eight():
    """But for the scales, and for the head."""
    config = dataclasses.replace(CONFIG, hidden_size=64, head_dim=32, intermediate_size=256)
    layers = [
        pack(config, tensors(config), dtype=dtype, has_byte_cache=False).arrays[5][0, 0] for dtype in ("int8", "int4")
    ]
    assert layers[1] == layers[0] * 9 / 16


def test_the_first_matrix_is_queries_keys_and_values_of_the_first_part():
    given_tensors = tensors(CONFIG)
    packed = pack(CONFIG, given_tensors, dtype="float32", has_byte_cache=False)
    rows = 128  # two heads of queries, one of keys, one of values, each padded to 32
    matrix = packed.arrays[2][: 4 * rows * 64].view(np.float32).reshape(rows // 64, 64, 64)
    matrix = matrix.transpose(0, 2, 1).reshape(rows, 64)
    query = given_tensors["model.layers.0.self_attn.q_proj.weight"]
    value = given_tensors["model.layers.0.self_attn.v_proj.weight"]
    assert np.array_equal(matrix[:5, :40], query[:5]), "the first half of the first head"
    assert np.array_equal(matrix[16:21, :40], query[5:10]), "its second half begins where 16 do"
    assert np.array_equal(matrix[96:101, :40], value[:5])
    assert not matrix[5:16].any()
    assert not matrix[:, 40:].any()


def test_gains_are_in_the_order_of_the_norms():
    given_tensors = tensors(CONFIG)
    gains = pack(CONFIG, given_tensors, dtype="int8", has_byte_cache=False).arrays[1]
    assert gains.shape == (5, 64)
    assert np.array_equal(gains[2, :40], given_tensors["model.layers.1.input_layernorm.weight"])
    assert np.array_equal(gains[3, :40], given_tensors["model.layers.1.post_attention_layernorm.weight"])
    assert np.array_equal(gains[4, :40], given_tensors["model.norm.weight"])
    assert not gains[:, 40:].any()


def in_blocks_of_a_file(matrix: np.ndarray, random: np.random.Generator) -> Quantized:
    """Return a matrix of random whole numbers and scales in blocks of Q4_0."""
    blocks = np.zeros((len(matrix), matrix.shape[1] // 32), dtype=BLOCK_DTYPES["Q4_0"])
    blocks["scale"] = random.uniform(-0.1, 0.1, blocks.shape)
    blocks["nibbles"] = random.integers(0, 256, (*blocks.shape, 16))
    return Quantized("Q4_0", blocks)


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4}, {"num_attention_heads": 2}])
def test_blocks_of_a_file_are_used_as_they_are(changes):
    """Every block of every matrix is found among the panels, with its scale; nothing else is there."""
    sizes = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 256, **changes}
    config, random = dataclasses.replace(CONFIG, **sizes), np.random.default_rng(3)
    given_tensors = {
        name: in_blocks_of_a_file(array, random) if "proj" in name else array for name, array in tensors(config).items()
    }
    packed = pack(config, given_tensors, dtype="int4", has_byte_cache=False)
    found: list[tuple[float, bytes]] = []
    network, panels, head = packed.network, packed.arrays[2], packed.arrays[5][0, 0]
    columns_of = [64, network.num_heads * 32, 64, network.inner_size]
    starts = [*packed.arrays[4][..., 0].ravel().tolist(), head]
    for index, (start, end) in enumerate(itertools.pairwise(starts)):
        found += blocks_of(panels[start:end], columns_of[index % 4])
    expected = [
        (float(block["scale"]), block["nibbles"].tobytes())
        for array in given_tensors.values()
        if isinstance(array, Quantized)
        for block in array.blocks.ravel()
    ]
    padding = {(0.0, bytes([0x88]) * 16)}
    assert sorted(set(found) - padding) == sorted(expected)


def blocks_of(panels: np.ndarray, columns: int) -> list[tuple[float, bytes]]:
    """Return the scale and the nibbles, as in a file, of each block of a matrix's panels."""
    laid = panels.reshape(-1, 9 * columns)
    count = columns // 32
    weights = laid[:, : 8 * columns].reshape(-1, count, 4, 16, 4).transpose(0, 3, 1, 2, 4).reshape(-1, 16)
    scales = np.ascontiguousarray(laid[:, 8 * columns :]).view(np.float16).reshape(-1, count, 16)
    scales = scales.transpose(0, 2, 1).ravel()
    return [(float(scale), nibbles.tobytes()) for scale, nibbles in zip(scales, weights, strict=True)]


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_1"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_other_blocks_are_as_good_as_their_values(kind, dtype):
    config, random = dataclasses.replace(CONFIG, hidden_size=64), np.random.default_rng(4)
    plain = tensors(config)
    name = "model.layers.1.mlp.gate_proj.weight"
    blocks = np.zeros((70, 2), dtype=BLOCK_DTYPES[kind])
    blocks["scale"] = 0.1
    blocks["integers" if kind == "Q8_0" else "nibbles"] = random.integers(0, 100, (70, 2, 32 if kind == "Q8_0" else 16))
    held = Quantized(kind, blocks)
    one, two = (
        pack(config, {**plain, name: array}, dtype=dtype, has_byte_cache=False).arrays
        for array in (held, held.dequantized())
    )
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(one, two, strict=True))


def test_angles_are_those_of_the_network_in_torch():
    from stentor.model.llama import rotary_tables

    packed = pack(CONFIG, tensors(CONFIG), dtype="float32", has_byte_cache=False)
    table = packed.arrays[-1]
    cosines, sines = rotary_tables(CONFIG)
    np.testing.assert_allclose(table[:, 0, :5], cosines[:, :5], atol=2e-6)
    np.testing.assert_allclose(table[:, 1, :5], sines[:, :5], atol=2e-6)
