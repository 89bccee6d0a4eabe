"""A mapped GGUF file: every type as the reference package reads it, every contradiction refused, nothing copied."""

from __future__ import annotations

import contextlib
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.model.gguf_file import FLOAT_DTYPES, open_gguf
from stentor.model.quantized import BLOCK_DTYPES, Quantized, as_float32

KINDS = [*FLOAT_DTYPES, *BLOCK_DTYPES]
SHAPES = {"matrix": (6, 64), "vector": (96,), "odd": (5, 32)}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes tensors of some kind with the reference package."""

    def run(kind="F32", *, metadata=(), alignment=None, shapes=SHAPES):
        path = tmp_path / "x.gguf"
        writer = GGUFWriter(path, "llama")
        if alignment:
            writer.add_custom_alignment(alignment)
        for key, value in metadata:
            writer.add_string(key, value)
        generator = np.random.default_rng(0)
        for name, shape in shapes.items():
            values = generator.standard_normal(shape).astype(np.float32)
            raw = None if kind in ("F32", "F16") else GGMLQuantizationType[kind]
            writer.add_tensor(name, quantize(values, GGMLQuantizationType[kind]), raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alignment", [None, 64])
def test_tensors_are_those_of_the_reference_package(write, kind, alignment):
    path = write(kind, alignment=alignment)
    ours, theirs = open_gguf(path), GGUFReader(path)
    assert [*ours.tensors] == [tensor.name for tensor in theirs.tensors] == [*SHAPES]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.shape == SHAPES[tensor.name]
        values = as_float32(mine)
        expected = dequantize(tensor.data, tensor.tensor_type).reshape(SHAPES[tensor.name])
        assert values.dtype == np.float32
        assert np.array_equal(values.view(np.uint32), expected.view(np.uint32)), tensor.name
        assert isinstance(mine, Quantized) == (kind in BLOCK_DTYPES)


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_the_file_is_mapped_not_copied(write, kind):
    path = write(kind, shapes={"large": (4096, 256)})
    tracemalloc.start()
    try:
        tensor = open_gguf(path).tensors["large"]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
    assert peak < path.stat().st_size
    array = tensor.blocks if isinstance(tensor, Quantized) else tensor
    assert not array.flags.writeable


def test_a_file_that_is_replaced_leaves_what_was_read(write):
    path = write("F32")
    tensor = open_gguf(path).tensors["matrix"]
    before = as_float32(tensor).copy()
    write_file(path, b"GGUF and something else")
    assert np.array_equal(as_float32(tensor), before)


# --- metadata by type ---


def test_metadata_of_another_type_or_none_are_refused(write):
    path = write(metadata=[("a.text", "x")])
    file = open_gguf(path)
    file.metadata.update({"n": 3, "f": 0.5, "b": True, "floats": np.ones(2, "<f4"), "ints": np.ones(2, "<i4")})
    assert (file.text("a.text"), file.whole("n"), file.number("n"), file.number("f")) == ("x", 3, 3.0, 0.5)
    assert (file.whole("absent", 4), file.text("absent", "d"), file.wholes("ints")) == (4, "d", [1, 1])
    with pytest.raises(UserError, match=r"x\.gguf does not say its absent"):
        file.number("absent")
    for read, key, kind in (
        (file.text, "n", "a text"),
        (file.whole, "f", "a whole number"),
        (file.whole, "b", "a whole number"),
        (file.number, "b", "a number"),
        (file.number, "a.text", "a number"),
        (file.texts, "a.text", "a list of texts"),
        (file.texts, "ints", "a list of texts"),
        (file.wholes, "floats", "a list of whole numbers"),
        (file.wholes, "n", "a list of whole numbers"),
    ):
        with pytest.raises(UserError, match=f"has a {re.escape(key)} that is not {kind}"):
            read(key)


# --- files that contradict themselves ---


def tensor_field(raw: bytes, name: str, field: str) -> int:
    """Return where a field of a tensor's entry lies in a file written above."""
    after_name = raw.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    num_dimensions = int.from_bytes(raw[after_name : after_name + 4], "little")
    fields = {"columns": 4, "type": 4 + 8 * num_dimensions, "offset": 8 + 8 * num_dimensions}
    return after_name + fields[field]


def altered(path, name, field, value, layout="<Q"):
    raw = bytearray(path.read_bytes())
    at = tensor_field(bytes(raw), name, field)
    raw[at : at + struct.calcsize(layout)] = struct.pack(layout, value)
    write_file(path, bytes(raw))
    return path


def refused(path, said):
    with pytest.raises(UserError, match=said) as caught:
        open_gguf(path)
    assert str(path) in caught.value.message
    assert caught.value.fix


def test_a_tensor_beyond_the_file_is_refused(write):
    refused(altered(write(), "odd", "offset", 1 << 40), "'odd' reaches beyond the end of the file")
    refused(altered(write(), "odd", "columns", 1 << 62), "'odd' reaches beyond the end of the file")


def test_a_truncated_file_is_refused(write):
    path = write("Q8_0", shapes={"matrix": (6, 64)})
    raw = path.read_bytes()
    num_data_bytes = 6 * 2 * 34
    begin = len(raw) - -(-num_data_bytes // 32) * 32
    write_file(path, raw[: begin + num_data_bytes])  # only the padding behind the last tensor is gone
    open_gguf(path)
    write_file(path, raw[: begin + num_data_bytes - 1])
    refused(path, "'matrix' reaches beyond the end of the file")


def test_a_tensor_that_overlaps_another_is_refused(write):
    refused(altered(write(), "vector", "offset", 32), "'vector' overlaps another one")
    refused(altered(write(), "vector", "offset", 0), "overlaps another one")


def test_a_tensor_out_of_line_is_refused(write):
    path = write(shapes={"matrix": (6, 64), "vector": (3,)})
    refused(altered(path, "vector", "offset", 6 * 64 * 4 + 8), "'vector' does not begin at a multiple of 32 bytes")


def test_an_empty_tensor_is_refused(write):
    refused(altered(write(), "vector", "columns", 0), "'vector' is empty")


@pytest.mark.parametrize(
    ("number", "said"), [(10, "Q2_K"), (11, "Q3_K"), (4, "type 4"), (0xFFFFFFFF, "type 4294967295")]
)
def test_a_type_that_is_not_read_is_named(write, number, said):
    path = altered(write(), "matrix", "type", number, "<I")
    refused(path, f"'matrix' is stored as {said}, which Stentor does not read")


def test_rows_that_no_block_divides_are_refused(write):
    refused(altered(write("Q8_0"), "matrix", "columns", 63), "rows of 'matrix' cannot be cut into blocks of 32")


@pytest.mark.parametrize("alignment", [0, 1, 7, 48, 1 << 31])
def test_an_alignment_that_is_none_is_refused(write, alignment):
    path = write(alignment=64)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"general.alignment") + len(b"general.alignment") + 4
    raw[at : at + 4] = struct.pack("<I", alignment)
    write_file(path, bytes(raw))
    refused(path, f"its general.alignment is {alignment}")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_are_refused_by_name(write, kind):
    path = write(kind, shapes={"matrix": (6, 64)})
    raw = bytearray(path.read_bytes())
    begin = GGUFReader(path).data_offset
    not_a_number = {"F32": b"\x00\x00\xc0\x7f", "BF16": b"\xc0\x7f"}.get(kind, b"\x00\x7e")
    raw[begin : begin + len(not_a_number)] = not_a_number
    write_file(path, bytes(raw))
    refused(path, "matrix holds NaN or infinity")


@pytest.mark.parametrize("size", [0, 1, 4, 23])
def test_a_file_too_short_for_a_header_is_refused(tmp_path, size):
    write_file(tmp_path / "x.gguf", (b"GGUF\x03" + bytes(60))[:size])
    refused(tmp_path / "x.gguf", "ends at byte")


def test_what_cannot_be_opened_is_one_sentence(tmp_path):
    refused(tmp_path / "absent.gguf", "cannot be read")
    (tmp_path / "folder.gguf").mkdir()
    refused(tmp_path / "folder.gguf", r"cannot be read|damaged")


# --- anything at all ---


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless_quickly_and_in_little_memory(data, write_once):
    path, raw = write_once
    damaged = damage(data, bytearray(raw))
    write_file(path, bytes(damaged))
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            for tensor in open_gguf(path).tensors.values():
                assert np.isfinite(as_float32(tensor)).all()
        assert tracemalloc.get_traced_memory()[1] < 4 * len(damaged) + 50_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 2


def damage(data, raw: bytearray) -> bytearray:
    at = data.draw(st.integers(0, len(raw) - 1) | st.integers(0, 300))
    how = data.draw(st.sampled_from(["truncate", "flip", "extend", "zeros", "count", "insert", "remove"]))
    if how == "truncate":
        return raw[:at]
    if how == "flip":
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "extend":
        raw += data.draw(st.binary(max_size=100))
    elif how == "zeros":
        raw[at : at + 40] = bytes(len(raw[at : at + 40]))
    elif how == "count":
        raw[at : at + 8] = struct.pack("<Q", data.draw(st.sampled_from([0, 1, 1 << 31, 1 << 40, (1 << 64) - 1])))
    elif how == "insert":
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=40))
    else:
        del raw[at : at + data.draw(st.integers(1, 40))]
    return raw


@pytest.fixture(scope="module")
def write_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "x.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_string("a.text", "text")
    writer.add_array("a.texts", ["one", "two", "three"])
    writer.add_array("a.numbers", [1, 2, 3])
    for kind in KINDS:
        raw = None if kind in ("F32", "F16") else GGMLQuantizationType[kind]
        values = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
        writer.add_tensor(kind, quantize(values, GGMLQuantizationType[kind]), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, path.read_bytes()
