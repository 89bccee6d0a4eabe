"""Blocks of every kind stand for exactly the values that the reference package `gguf` reads from them."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.model.quantized import BLOCK_DTYPES, BLOCK_SIZE, Quantized

KINDS = sorted(BLOCK_DTYPES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def quantized(kind: str, raw: np.ndarray) -> Quantized:
    """Return the blocks in rows of bytes."""
    return Quantized(kind, np.ascontiguousarray(raw).view(BLOCK_DTYPES[kind]))


def slow_value(kind: str, block: bytes, index: int) -> np.float32:
    """Return one value of a block by the letter of ggml's `dequantize_row_*`."""
    scale = np.frombuffer(block[:2], "<f2")[0].astype(np.float32)
    if kind == "Q8_0":
        return scale * np.float32(np.int8(block[2 + index] - 256 if block[2 + index] > 127 else block[2 + index]))
    begin = {"Q4_0": 2, "Q4_1": 4, "Q5_0": 6, "Q5_1": 8}[kind]
    packed = block[begin + index % 16]
    nibble = packed & 15 if index < 16 else packed >> 4
    if kind == "Q4_0":
        return scale * np.float32(nibble - 8)
    if kind == "Q4_1":
        return scale * np.float32(nibble) + np.frombuffer(block[2:4], "<f2")[0].astype(np.float32)
    if kind == "Q5_1":
        fifth = int.from_bytes(block[4:8], "little") >> index & 1
        return scale * np.float32(nibble | fifth << 4) + np.frombuffer(block[2:4], "<f2")[0].astype(np.float32)
    fifth = int.from_bytes(block[2:6], "little") >> index & 1
    return scale * np.float32((nibble | fifth << 4) - 16)


@each_kind
def test_a_block_takes_the_bytes_that_ggml_says(kind):
    assert (BLOCK_SIZE, BLOCK_DTYPES[kind].itemsize) == GGML_QUANT_SIZES[GGMLQuantizationType[kind]]


@given(st.sampled_from(KINDS), hnp.arrays(np.float32, (3, 64), elements=st.floats(-100, 100, width=16)))
def test_values_are_those_of_the_reference_package(kind, values):
    raw = quantize(values, GGMLQuantizationType[kind])
    ours, theirs = quantized(kind, raw).dequantized(), dequantize(raw, GGMLQuantizationType[kind])
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@given(st.sampled_from(KINDS), st.data())
def test_any_bytes_are_read_as_the_slow_twin_reads_them(kind, data):
    raw = data.draw(hnp.arrays(np.uint8, (2, 2 * BLOCK_DTYPES[kind].itemsize)))
    raw.view(BLOCK_DTYPES[kind])["scale"] = data.draw(hnp.arrays(np.float16, (2, 2)))
    blocks = raw.view(BLOCK_DTYPES[kind])
    with np.errstate(all="ignore"):
        ours = quantized(kind, raw).dequantized()
        for row, column in np.ndindex(2, 64):
            expected = slow_value(kind, blocks[row, column // 32].tobytes(), column % 32)
            assert np.array_equal(ours[row, column], expected, equal_nan=True)


@each_kind
def test_integers_and_scales_are_the_values_without_a_round_trip(kind):
    values = np.random.default_rng(0).standard_normal((4, 96)).astype(np.float32)
    matrix = quantized(kind, quantize(values, GGMLQuantizationType[kind]))
    integers = matrix.integers()
    assert integers.dtype == np.int8
    assert integers.shape == (4, 3, 32)
    product = matrix.blocks["scale"].astype(np.float32)[..., None] * integers
    if kind in ("Q4_1", "Q5_1"):
        product = product + matrix.blocks["minimum"].astype(np.float32)[..., None]
    assert np.array_equal(product.reshape(4, 96), matrix.dequantized())
    assert matrix.shape == (4, 96)


def test_the_integers_of_q8_0_are_a_view_of_the_blocks():
    matrix = quantized("Q8_0", quantize(np.ones((2, 32), np.float32), GGMLQuantizationType.Q8_0))
    assert np.shares_memory(matrix.integers(), matrix.blocks)


@each_kind
def test_rows_come_in_the_order_asked_for(kind):
    values = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    matrix = quantized(kind, quantize(values, GGMLQuantizationType[kind]))
    order = np.array([2, 0, 3, 1])
    assert np.array_equal(matrix.rows(order).dequantized(), matrix.dequantized()[order])


@each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_no_number_is_seen(kind, bad):
    matrix = quantized(kind, quantize(np.ones((2, 64), np.float32), GGMLQuantizationType[kind]))
    assert matrix.is_finite()
    for field in {"scale", "minimum"} & set(BLOCK_DTYPES[kind].names or ()):
        damaged = Quantized(kind, matrix.blocks.copy())
        damaged.blocks[field][1, 1] = bad
        assert not damaged.is_finite()
