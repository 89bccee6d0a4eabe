"""The header of a GGUF file: the reference package's own reading of it, and one sentence for every lie in it."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.model.gguf_header import read_header


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(*, version=3, num_tensors=0, num_entries=0, rest=b"", magic=b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, num_tensors, num_entries) + rest


def read(data: bytes, tmp_path):
    return read_header(np.frombuffer(data, np.uint8), tmp_path / "x.gguf")


def entry(key: str, type_id: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", type_id) + value


def tensor(name: str, shape=(4, 2), type_id=0, offset=0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), type_id, offset)


def test_every_type_of_metadata_is_read_as_the_reference_package_reads_it(tmp_path):
    path = tmp_path / "all.gguf"
    writer = GGUFWriter(path, "llama")
    for name, value in (("uint8", 200), ("int8", -3), ("uint16", 60000), ("int16", -300), ("uint32", 1 << 31)):
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    for name, value in (("int32", -5), ("uint64", 1 << 63), ("int64", -(1 << 62)), ("float32", 0.1), ("float64", 0.1)):
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    writer.add_bool("x.yes", True)
    writer.add_bool("x.no", False)
    writer.add_string("x.text", "caf\u00e9")
    writer.add_array("x.texts", ["a", "", "\u65e5"])
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_array("x.floats", [0.5, 1.5])
    writer.add_tensor("t", np.zeros((3, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = read_header(np.fromfile(path, np.uint8), path), GGUFReader(path)
    for key, value in ours.metadata.items():
        field = theirs.get_field(key)
        assert field is not None
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), key
    assert len(ours.metadata) == 17
    assert ours.tensors["t"].shape == (3, 4)
    assert -(-ours.size_bytes // 32) * 32 == theirs.data_offset


def test_what_is_no_gguf_file_is_said_to_be_none(tmp_path):
    for data in (b"PK\x03\x04" + bytes(60), header(magic=b"FUGG")):
        with pytest.raises(UserError, match="is no GGUF file"):
            read(data, tmp_path)


@pytest.mark.parametrize("version", [0, 1, 4, 3 << 24])
def test_an_unknown_version_or_byte_order_is_refused(tmp_path, version):
    with pytest.raises(UserError, match=f"GGUF file of version {version}, or of a machine with another byte order"):
        read(header(version=version), tmp_path)


def test_an_empty_header_is_a_header(tmp_path):
    assert read(header(version=2), tmp_path).size_bytes == 24


ARRAY = entry("k", 9, struct.pack("<IQ", 4, 1 << 60))
LIES = {
    "its header ends at byte 10": header()[:10],
    "its header ends at byte 0": b"",
    "cannot hold the 9223372036854775808 tensors": header(num_tensors=1 << 63),
    "cannot hold the 1000000000 entries of metadata": header(num_entries=10**9, rest=bytes(25)),
    "cannot hold the 70000 entries": header(num_entries=70_000, rest=bytes(70_000 * 20)),
    "cannot hold the 1 entries": header(num_entries=1, rest=bytes(4)),
    "cannot hold the 1152921504606846976 values of 'k'": header(num_entries=1, rest=ARRAY),
    "cannot hold the 5 strings of 'k'": header(
        num_entries=1, rest=entry("k", 9, struct.pack("<IQ", 8, 5) + text("") * 4)
    ),
    "its header ends at byte": header(num_entries=1, rest=struct.pack("<Q", 1 << 62) + bytes(20)),
    "is not UTF-8": header(num_entries=1, rest=struct.pack("<Q", 2) + b"\xff\xfe" + bytes(20)),
    "'k' has the unknown type 13": header(num_entries=1, rest=entry("k", 13, bytes(8))),
    "'k' is an array of the unknown type 9": header(num_entries=1, rest=entry("k", 9, struct.pack("<IQ", 9, 1))),
    "'k' is neither true nor false": header(num_entries=1, rest=entry("k", 7, b"\x02")),
    "the metadata 'k' is there twice": header(num_entries=2, rest=entry("k", 0, b"\1") * 2),
    "the tensor 't' is there twice": header(num_tensors=2, rest=tensor("t") * 2),
    "the tensor 't' has 0 dimensions": header(num_tensors=1, rest=tensor("t", ()) + bytes(8)),
    "the tensor 't' has 5 dimensions": header(num_tensors=1, rest=tensor("t", (1,) * 5)),
}


@pytest.mark.parametrize("said", LIES)
def test_every_lie_is_refused_before_anything_is_made_of_it(tmp_path, said):
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=said) as caught:
            read(LIES[said], tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(LIES[said]) + 100_000
    finally:
        tracemalloc.stop()
    assert "x.gguf" in caught.value.message
    assert caught.value.fix


def test_a_long_name_does_not_flood_the_message(tmp_path):
    with pytest.raises(UserError) as caught:
        read(header(num_tensors=2, rest=tensor("t" * 10_000) * 2), tmp_path)
    assert len(caught.value.message) < 300


@given(st.binary(max_size=400), st.sampled_from([0, 1, 3]), st.sampled_from([0, 1, 2]))
def test_any_bytes_behind_the_magic_are_refused_or_read_at_once(tmp_path_factory, data, num_tensors, num_entries):
    started = time.perf_counter()
    with contextlib.suppress(UserError):
        read_header(
            np.frombuffer(header(num_tensors=num_tensors, num_entries=num_entries, rest=data), np.uint8),
            tmp_path_factory.getbasetemp(),
        )
    assert time.perf_counter() - started < 2


def test_the_file_that_hangs_the_reference_reader_is_refused(tmp_path):
    """49 bytes that announce an array of 2^40 values."""
    data = header(num_entries=1, rest=entry("a", 9, struct.pack("<IQ", 0, 1 << 40))) + bytes(0)
    write_file(tmp_path / "x.gguf", data)
    assert len(data) == 49
    with pytest.raises(UserError, match="cannot hold the 1099511627776 values"):
        read(data, tmp_path)
