from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.export.quantize import STORED_TYPES, activation_dtype, as_stored, dtype_of, encode, stored_type
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
