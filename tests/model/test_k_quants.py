"""Super-blocks of every kind stand for exactly the values that the reference package `gguf` reads from them."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.errors import UserError
from stentor.model.gguf_file import open_gguf
from stentor.model.k_quants import SUPER_BLOCK_DTYPES, SUPER_BLOCK_SIZE
from stentor.model.quantized import Quantized, values_per_block

KINDS = sorted(SUPER_BLOCK_DTYPES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def quantized(kind: str, raw: np.ndarray) -> Quantized:
    return Quantized(kind, np.ascontiguousarray(raw).view(SUPER_BLOCK_DTYPES[kind]))


def drawn(kind: str, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return bytes of blocks [R, C] whose factors are numbers."""
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, 256, (shape[0], shape[1] * SUPER_BLOCK_DTYPES[kind].itemsize), dtype=np.uint8)
    blocks = raw.view(SUPER_BLOCK_DTYPES[kind])
    for field in {"scale", "minimum"} & set(SUPER_BLOCK_DTYPES[kind].names or ()):
        blocks[field] = generator.standard_normal(shape).astype(np.float16)
    return raw


def six_bit_pair(parts: bytes, part: int) -> tuple[int, int]:
    """Return a scale and a minimum by the letter of ggml's `get_scale_min_k4`."""
    if part < 4:
        return parts[part] & 63, parts[part + 4] & 63
    low, high = parts[part + 4], (parts[part - 4] >> 6, parts[part] >> 6)
    return low & 15 | high[0] << 4, low >> 4 | high[1] << 4


def slow_value(kind: str, block: np.void, index: int) -> np.float32:
    """Return one value of a super-block by the letter of ggml's `dequantize_row_*`."""
    scale = block["scale"].astype(np.float32)
    if kind == "Q6_K":
        half, rest = divmod(index, 128)
        quarter, place = divmod(rest, 32)
        byte = int(block["nibbles"][half][place + 32 * (quarter % 2)])
        low = byte & 15 if quarter < 2 else byte >> 4
        high = int(block["high_bits"][half][place]) >> 2 * quarter & 3
        return scale * np.float32(block["parts"][index // 16]) * np.float32((low | high << 4) - 32)
    part, place = divmod(index, 32)
    byte = int(block["nibbles"][part // 2][place])
    whole = byte >> 4 if part % 2 else byte & 15
    if kind == "Q5_K":
        whole |= (int(block["fifth_bits"][place]) >> part & 1) << 4
    steps, minimum = six_bit_pair(block["parts"].tobytes(), part)
    lowest = block["minimum"].astype(np.float32) * np.float32(minimum)
    return scale * np.float32(steps) * np.float32(whole) - lowest


@each_kind
def test_a_super_block_takes_the_bytes_that_ggml_says(kind):
    assert values_per_block(kind) == SUPER_BLOCK_SIZE
    assert (SUPER_BLOCK_SIZE, SUPER_BLOCK_DTYPES[kind].itemsize) == GGML_QUANT_SIZES[GGMLQuantizationType[kind]]


@given(st.sampled_from(KINDS), st.integers(0, 1 << 30))
def test_values_are_those_of_the_reference_package_to_the_bit(kind, seed):
    raw = drawn(kind, (2, 2), seed)
    ours, theirs = quantized(kind, raw).dequantized(), dequantize(raw, GGMLQuantizationType[kind])
    assert ours.dtype == np.float32
    assert ours.shape == (2, 512)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@each_kind
def test_values_are_those_of_the_slow_twin(kind):
    matrix = quantized(kind, drawn(kind, (1, 2), 3))
    values = matrix.dequantized()
    for column in range(512):
        assert values[0, column] == slow_value(kind, matrix.blocks[0, column // 256], column % 256)


@given(st.sampled_from(KINDS), st.data())
def test_any_bytes_are_read_as_the_reference_package_reads_them(kind, data):
    raw = data.draw(hnp.arrays(np.uint8, (1, SUPER_BLOCK_DTYPES[kind].itemsize)))
    with np.errstate(all="ignore"):
        ours, theirs = quantized(kind, raw).dequantized(), dequantize(raw, GGMLQuantizationType[kind])
    assert np.array_equal(ours, theirs, equal_nan=True)


@each_kind
def test_rows_come_in_the_order_asked_for(kind):
    matrix = quantized(kind, drawn(kind, (4, 1)))
    order = np.array([2, 0, 3, 1])
    assert matrix.shape == (4, 256)
    assert np.array_equal(matrix.rows(order).dequantized(), matrix.dequantized()[order])


@each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_factor_that_is_no_number_is_seen(kind, bad):
    matrix = quantized(kind, drawn(kind, (2, 2)))
    assert matrix.is_finite()
    for field in {"scale", "minimum"} & set(matrix.blocks.dtype.names or ()):
        damaged = Quantized(kind, matrix.blocks.copy())
        damaged.blocks[field][1, 1] = bad
        assert not damaged.is_finite()


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file of one matrix with the reference package."""

    def run(kind, raw):
        writer = GGUFWriter(tmp_path / "x.gguf", "llama")
        writer.add_tensor("matrix", raw, raw_dtype=GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "x.gguf"

    return run


@each_kind
def test_a_file_is_read_and_its_blocks_are_a_view(kind, write):
    raw = drawn(kind, (3, 2))
    tensor = open_gguf(write(kind, raw)).tensors["matrix"]
    assert isinstance(tensor, Quantized)
    assert (tensor.kind, tensor.shape) == (kind, (3, 512))
    assert not tensor.blocks.flags.writeable
    assert np.array_equal(tensor.dequantized(), quantized(kind, raw).dequantized())


@each_kind
def test_rows_that_no_super_block_divides_are_refused(kind, write):
    path = write(kind, drawn(kind, (3, 1)))
    raw = bytearray(path.read_bytes())
    at = raw.rindex((256).to_bytes(8, "little"))
    raw[at : at + 8] = (255).to_bytes(8, "little")
    path.write_bytes(raw)
    with pytest.raises(UserError, match="rows of 'matrix' cannot be cut into blocks of 256"):
        open_gguf(path)
