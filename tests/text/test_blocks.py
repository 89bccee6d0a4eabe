"""Plain and compressed files come back byte for byte, in bounded blocks, or are refused by name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.text.blocks import BLOCK_BYTES, read_blocks

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
TEXT = b"The bells of the old town rang at noon. " * 5000


def packed(folder: Path, data: bytes, ending: str) -> Path:
    path = folder / f"text.txt{ending}"
    path.write_bytes(PACK[ending](data))
    return path


@pytest.mark.parametrize("ending", PACK)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=5000))
def test_any_bytes_come_back(tmp_path, ending, data):
    assert b"".join(read_blocks(packed(tmp_path, data, ending))) == data


@pytest.mark.parametrize("ending", PACK)
def test_blocks_are_about_a_mebibyte(tmp_path, ending):
    data = os.urandom(3 * BLOCK_BYTES + 17)
    blocks = list(read_blocks(packed(tmp_path, data, ending)))
    assert b"".join(blocks) == data
    assert len(blocks) >= 3
    assert max(map(len, blocks)) <= 2 * BLOCK_BYTES


@pytest.mark.parametrize("ending", PACK)
def test_empty_file_has_no_bytes(tmp_path, ending):
    path = tmp_path / f"a.txt{ending}"
    path.touch()
    assert b"".join(read_blocks(path)) == b""


def test_several_frames_follow_each_other(tmp_path):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(PACK[".zst"](b"one ") + PACK[".zst"](b"two ") + PACK[".zst"](TEXT))
    assert b"".join(read_blocks(path)) == b"one two " + TEXT


def test_several_gzip_members_follow_each_other(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert b"".join(read_blocks(path)) == b"one two"


def test_long_window_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    path = tmp_path / "a.txt.zst"
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with path.open("wb") as raw, compressor.stream_writer(raw) as file:
        file.write(TEXT)
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size == 2**27
    assert b"".join(read_blocks(path)) == TEXT


def test_little_input_that_stands_for_much_stays_in_bounded_blocks(tmp_path):
    path = packed(tmp_path, bytes(200 << 20), ".zst")
    assert path.stat().st_size < 100_000
    sizes = [len(block) for block in read_blocks(path)]
    assert sum(sizes) == 200 << 20
    assert max(sizes) <= 65 << 20


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, -1])
def test_truncated_file_is_refused_by_name(tmp_path, ending, keep):
    path = packed(tmp_path, os.urandom(50_000), ending)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep > 0 else keep])
    with pytest.raises(UserError, match="ends too early") as caught:
        list(read_blocks(path))
    assert str(path) in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_file_that_is_not_what_its_name_says(tmp_path, ending):
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(TEXT)
    with pytest.raises(UserError, match=f"not a valid {ending} file"):
        list(read_blocks(path))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_flipped_bytes_are_an_error_or_other_text_but_never_a_crash(tmp_path, ending):
    path = packed(tmp_path, TEXT, ending)
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x5A]) + data[position + 1 :])
        try:
            list(read_blocks(path))
        except UserError as error:
            assert str(path) in error.message  # noqa: PT017 - other bytes may be a valid file too


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_blocks(tmp_path / "none.txt"))


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        list(read_blocks(tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_file_without_permission(tmp_path):
    path = packed(tmp_path, TEXT, "")
    path.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        list(read_blocks(path))
