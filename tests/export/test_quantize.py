from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.errors import UserError
from stentor.export.quantize import (
    STORED_TYPES,
    activation_dtype,
    as_stored,
    dtype_of,
    encode,
    require_rows,
    rounded_activations,
    stored_type,
    sum_errors,
)
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.quantized import BLOCK_DTYPES, Quantized

MATRICES = hnp.arrays(np.float32, (3, 64), elements=st.floats(-100, 100, width=16))


def slow_q8_0(row):
    """Q8_0 by its definition: 32 values share a scale, the largest becomes 127; halves round away from zero."""
    out = []
    for start in range(0, len(row), 32):
        block = [np.float32(value) for value in row[start : start + 32]]
        scale = np.float32(max(abs(value) for value in block)) / np.float32(127)
        for value in block:
            exact = np.float32(value * (np.float32(1) / scale)) if scale else np.float32(0)
            whole = np.sign(exact) * np.floor(abs(exact) + np.float32(0.5))
            out.append(np.float32(np.float16(scale)) * np.float32(whole))
    return out


@given(MATRICES)
def test_q8_0_equals_its_definition(values):
    expected = np.array([slow_q8_0(row) for row in values], dtype=np.float32)
    assert np.allclose(as_stored(values, "q8_0"), expected, rtol=0, atol=1e-6)


@given(MATRICES)
def test_q8_0_loses_at_most_half_a_step_and_the_scales_rounding(values):
    blocks = values.reshape(3, 2, 32)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    error = np.abs(as_stored(values, "q8_0").reshape(blocks.shape) - blocks)
    assert (error <= largest * (0.5 / 127 + 2**-11) + 127 * 2.0**-24).all()


@given(MATRICES)
def test_float32_is_exact_and_float16_rounds_to_nearest(values):
    assert np.array_equal(as_stored(values, "float32"), values)
    assert np.array_equal(as_stored(values, "float16"), values.astype(np.float16).astype(np.float32))


@given(MATRICES, st.sampled_from(["float32", "float16"]))
def test_storing_twice_changes_nothing_more(values, dtype):
    once = as_stored(values, dtype)
    assert np.array_equal(as_stored(once, dtype), once)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((64,), "q8_0", GGMLQuantizationType.F32),
        ((64,), "float16", GGMLQuantizationType.F32),
        ((4, 64), "q8_0", GGMLQuantizationType.Q8_0),
        ((4, 48), "q8_0", GGMLQuantizationType.F16),
        ((4, 48), "float16", GGMLQuantizationType.F16),
        ((4, 48), "float32", GGMLQuantizationType.F32),
    ],
)
def test_type_of_a_tensor(shape, dtype, expected):
    assert stored_type(shape, dtype) == expected


def test_encoded_sizes_are_those_of_the_format():
    values = np.ones((4, 64), np.float32)
    assert encode(values, "float32").nbytes == 4 * 64 * 4
    assert encode(values, "float16").nbytes == 4 * 64 * 2
    assert encode(values, "q8_0").nbytes == 4 * 2 * 34


def test_values_that_are_not_contiguous_are_stored_in_reading_order():
    values = np.arange(32 * 64, dtype=np.float32).reshape(64, 32).T
    assert np.allclose(as_stored(values, "q8_0"), values, atol=2048 / 127)
    assert np.array_equal(as_stored(values, "float32"), values)


def test_values_too_small_for_a_scale_become_zeros():
    values = np.full((2, 32), 1e-42, np.float32)
    assert not as_stored(values, "q8_0").any()


def test_values_too_large_for_float16_become_infinite_without_a_warning():
    assert np.isinf(as_stored(np.full((1, 32), 1e6, np.float32), "float16")).all()


# --- the coarser blocks ---


def slow_blocks(row, dtype):
    """Q4_0 and Q5_0 by their definition: the value furthest from zero, with its sign, becomes the lowest integer."""
    lowest = {"q4_0": -8, "q5_0": -16}[dtype]
    out = []
    for start in range(0, len(row), 32):
        block = [np.float32(value) for value in row[start : start + 32]]
        extreme = max(block, key=abs)
        scale = extreme / np.float32(lowest)
        inverse = np.float32(1) / scale if scale else np.float32(0)
        for value in block:
            whole = int(value * inverse + np.float32(0.5 - lowest))
            out.append(np.float32(np.float16(scale)) * np.float32(min(whole, -2 * lowest - 1) + lowest))
    return out


@given(MATRICES, st.sampled_from(["q4_0", "q5_0"]))
def test_coarser_blocks_equal_their_definition(values, dtype):
    expected = np.array([slow_blocks(row, dtype) for row in values], dtype=np.float32)
    assert np.array_equal(as_stored(values, dtype), expected)


@given(MATRICES, st.sampled_from(["q4_0", "q5_0", "q8_0"]))
def test_blocks_are_the_reference_packages_to_the_bit_and_our_reader_reads_them(values, dtype):
    encoded = encode(values, dtype)
    assert np.array_equal(encoded, quantize(values, STORED_TYPES[dtype]))
    kind = STORED_TYPES[dtype].name
    ours = Quantized(kind, np.ascontiguousarray(encoded).view(BLOCK_DTYPES[kind])).dequantized()
    assert np.array_equal(ours.view(np.uint32), as_stored(values, dtype).view(np.uint32))


@pytest.mark.parametrize(("dtype", "block_bytes"), [("q8_0", 34), ("q5_0", 22), ("q4_0", 18)])
def test_a_block_takes_the_bytes_of_its_type(dtype, block_bytes):
    assert encode(np.ones((4, 64), np.float32), dtype).nbytes == 4 * 2 * block_bytes
    assert stored_type((4, 48), dtype) == GGMLQuantizationType.F16
    assert stored_type((64,), dtype) == GGMLQuantizationType.F32


def k_kinds(dtype, *, num_layers=12, is_tied=True):
    """Return the dtypes of values, MLP outputs and all other matrices by layer, and of what makes the logits."""
    names = [f"model.layers.{{}}.{part}.weight" for part in ("self_attn.v_proj", "mlp.down_proj", "self_attn.q_proj")]
    layers = range(num_layers)
    found = [
        [dtype_of(name.format(n), dtype, is_tied=is_tied, num_layers=num_layers) for n in layers] for name in names
    ]
    return *found, dtype_of(EMBEDDING if is_tied else HEAD, dtype, is_tied=is_tied, num_layers=num_layers)


@pytest.mark.parametrize(("dtype", "rest"), [("q4_k_m", "q4_k"), ("q5_k_m", "q5_k")])
def test_a_mixture_stores_values_and_mlp_outputs_of_some_layers_finer(dtype, rest):
    values, outputs, queries, logits = k_kinds(dtype)
    assert values == outputs
    # llama.cpp: the first eighth of the layers, the last, and every third between them
    assert [n for n in range(12) if values[n] == "q6_k"] == [0, 3, 6, 9, 10, 11]
    assert set(values) == {"q6_k", rest}
    assert set(queries) == {rest}
    assert logits == k_kinds(dtype, is_tied=False)[3] == "q6_k"


def test_q6_k_is_everywhere_and_int8_leaves_the_ends_alone():
    values, outputs, queries, logits = k_kinds("q6_k")
    assert {*values, *outputs, *queries, logits} == {"q6_k"}
    values, outputs, queries, logits = k_kinds("int8")
    assert {*values, *outputs, *queries} == {"q8_0"}
    assert logits == dtype_of(EMBEDDING, "int8", is_tied=False, num_layers=12) == "float32"


@pytest.mark.parametrize("dtype", ["q4_k_m", "q5_k_m", "q6_k"])
def test_rows_that_no_super_block_divides_are_refused(dtype):
    require_rows(dtype, [256, 768])
    with pytest.raises(UserError, match="rows of 96 cannot be cut so") as caught:
        require_rows(dtype, [256, 96])
    assert "q4_0" in caught.value.fix
    for other in ("q4_0", "q8_0", "int8", "float16"):
        require_rows(other, [96])


def slow_q8_k(block):
    """ggml's quantize_row_q8_K_ref, one number at a time."""
    top = max(block, key=abs)
    if top == 0:
        return [np.float32(0)] * len(block)
    inverse = np.float32(-127) / top
    return [np.float32(min(127, np.rint(inverse * value))) * (np.float32(1) / inverse) for value in block]


@given(hnp.arrays(np.float32, (1, 2, 256), elements=st.floats(-50, 50, width=16)))
def test_activations_beside_k_quants_are_rounded_as_ggml_does(values):
    assert activation_dtype("q6_k") == activation_dtype("q4_k") == "q8_k"
    ours = rounded_activations(values, "q8_k")
    expected = np.array([slow_q8_k(block) for block in values[0]], dtype=np.float32)
    assert np.allclose(ours[0], expected, rtol=1e-6, atol=1e-9)


def test_other_activations_are_rounded_as_weights_are():
    values = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    for dtype in ("q8_0", "float16", "float32"):
        assert np.array_equal(rounded_activations(values, dtype), as_stored(values, dtype))


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_matrix_that_makes_the_logits_is_never_coarser_than_q8_0(is_tied):
    inner = "model.layers.0.mlp.up_proj.weight"
    for dtype in ("q5_0", "q4_0"):
        assert dtype_of(inner, dtype, is_tied=is_tied, num_layers=2) == dtype
        assert dtype_of(HEAD, dtype, is_tied=False, num_layers=2) == "q8_0"
        assert dtype_of(EMBEDDING, dtype, is_tied=is_tied, num_layers=2) == ("q8_0" if is_tied else dtype)
        assert activation_dtype(dtype) == "q8_0"
    for dtype in ("float32", "float16", "q8_0"):
        assert dtype_of(EMBEDDING, dtype, is_tied=True, num_layers=2) == activation_dtype(dtype) == dtype


def test_sums_are_held_in_float16():
    values = np.random.default_rng(0).normal(size=(3, 96)).astype(np.float32)
    values[1, 32:64] = 0
    errors = sum_errors(values)
    assert errors.shape == (3, 3)
    assert errors[1, 1] == 0
    held = errors + rounded_activations(values, "q8_0").reshape(3, 3, 32).sum(axis=-1)
    assert np.allclose(held, held.astype(np.float16).astype(np.float32), rtol=0, atol=1e-5)
    assert 0 < np.abs(errors).max() < 0.05
