import hashlib
import json
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import CorruptArtifactError, UserError
from stentor.shards.format import HEADER_BYTES, ShardHeader, ShardWriter, open_shard, require_uint16

DOCUMENTS = [[5, 6, 7], [], [279], [8] * 20]
ids_lists = st.lists(st.lists(st.integers(3, 279), max_size=20), min_size=1, max_size=10)


@pytest.fixture
def shard(make_shard):
    return make_shard(DOCUMENTS)


def with_header(path, **changes):
    """Rewrite a shard's header so that its own checksum holds: only the content is wrong."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    text = json.dumps(json.loads(data[48 : 48 + length]) | changes).encode()
    fixed = struct.pack("<8sII32s", data[:8], 1, len(text), hashlib.sha256(text).digest())
    path.write_bytes((fixed + text).ljust(HEADER_BYTES, b"\0") + data[HEADER_BYTES:])


# --- what is written ---


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=ids_lists)
def test_reader_gives_what_the_writer_got(make_shard, documents):
    shard = make_shard(documents)
    stream = [i for ids in documents for i in [*ids, 0]]
    assert shard.token_ids.tolist() == stream
    assert shard.num_tokens == len(stream)
    assert shard.num_documents == len(documents)
    bounds = [*shard.document_starts.tolist(), len(stream)]
    assert [stream[a : b - 1] for a, b in pairwise(bounds)] == documents
    shard.verify()


def test_golden_file(shard):
    """The format of docs/shards.md, byte for byte: a change here needs a new version number."""
    data = shard.path.read_bytes()
    assert data[:16] == b"STENTOR\x1a" + struct.pack("<I", 1) + data[12:16]
    length = struct.unpack_from("<I", data, 12)[0]
    header = data[48 : 48 + length]
    assert data[16:48] == hashlib.sha256(header).digest()
    assert data[48 + length : 4096] == bytes(4096 - 48 - length)
    tokens = struct.pack("<28H", 5, 6, 7, 0, 0, 279, 0, *[8] * 20, 0)
    index = struct.pack("<4Q", 0, 4, 5, 7)
    assert data[4096:] == tokens + index
    assert json.loads(header) == {
        "dtype": "uint16",
        "eos_token_id": 0,
        "num_documents": 4,
        "num_text_bytes": 0,
        "num_tokens": 28,
        "payload_sha256": hashlib.sha256(tokens + index).hexdigest(),
        "tokenizer_sha256": shard.tokenizer_sha256,
        "vocab_size": 280,
    }


def test_index_is_aligned_after_any_number_of_tokens(make_shard):
    for length in range(1, 9):
        shard = make_shard([[7] * length])
        assert shard.header.index_offset % 8 == 0
        assert shard.path.stat().st_size == shard.header.file_bytes
        assert shard.document_starts.tolist() == [0]


def test_added_in_parts_or_at_once_is_the_same(make_shard, tokenizer, tmp_path):
    with (tmp_path / "parts.bin").open("wb") as file:
        writer = ShardWriter(file, tokenizer)
        for ids in DOCUMENTS:
            writer.add([ids], num_text_bytes=0)
        writer.finish()
    assert (tmp_path / "parts.bin").read_bytes() == make_shard(DOCUMENTS).path.read_bytes()


def test_shard_tells_its_header(shard, tokenizer):
    assert shard.vocab_size == tokenizer.vocab_size
    assert shard.eos_token_id == tokenizer.eos_token_id
    assert shard.tokenizer_sha256 == tokenizer.sha256
    assert (shard.num_tokens, shard.num_documents, shard.num_text_bytes) == (28, 4, 0)
    assert shard.token_ids.dtype == np.uint16
    assert not shard.token_ids.flags.writeable


def test_vocabulary_that_does_not_fit_is_refused(tokenizer, monkeypatch, tmp_path):
    require_uint16(tokenizer)
    monkeypatch.setattr(type(tokenizer), "vocab_size", 65_537)
    with pytest.raises(UserError, match="65537 tokens"), (tmp_path / "x").open("wb") as file:
        ShardWriter(file, tokenizer)


# --- what is refused ---


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        open_shard(tmp_path / "nowhere.bin")


@pytest.mark.parametrize("data", [b"", b"STENT", b"\0" * 5000, b"PK\x03\x04" * 2000])
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="it is no shard"):
        open_shard(tmp_path / "x.bin")


@pytest.mark.parametrize("size", [8, 47, 48, 300, 4095])
def test_file_cut_within_its_header_is_refused(shard, size):
    shard.path.write_bytes(shard.path.read_bytes()[:size])
    with pytest.raises(CorruptArtifactError, match="ends within its header"):
        open_shard(shard.path)


@pytest.mark.parametrize("change", [-1, -40, +1, +4096])
def test_file_of_another_length_is_refused(shard, change):
    data = shard.path.read_bytes()
    shard.path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(CorruptArtifactError, match=f"has {len(data) + change} bytes, its header says {len(data)}"):
        open_shard(shard.path)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_other_version_is_refused_with_the_way_out(shard, version):
    data = bytearray(shard.path.read_bytes())
    data[8:12] = struct.pack("<I", version)
    shard.path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=f"has format {version}, this Stentor reads 1") as caught:
        open_shard(shard.path)
    assert "pip install -U" in caught.value.fix


@pytest.mark.parametrize("offset", [12, 15, 16, 47, 48, 60, 200])
def test_altered_header_is_refused(shard, offset):
    data = bytearray(shard.path.read_bytes())
    data[offset] ^= 0x41
    shard.path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="its header was altered"):
        open_shard(shard.path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_tokens": 2**62}, "its header says"),
        ({"num_tokens": 10**30}, "its header says"),
        ({"num_documents": 2**62, "num_tokens": 2**62}, "its header says"),
        ({"num_tokens": 0}, "counts that cannot be"),
        ({"num_documents": 0}, "counts that cannot be"),
        ({"num_documents": 29}, "counts that cannot be"),
        ({"num_tokens": -28}, "counts that cannot be"),
        ({"num_text_bytes": -1}, "counts that cannot be"),
        ({"eos_token_id": 280}, "counts that cannot be"),
        ({"vocab_size": 65_537}, "counts that cannot be"),
        ({"num_tokens": 28.0}, "wrong type"),
        ({"num_tokens": "28"}, "wrong type"),
        ({"num_tokens": None}, "wrong type"),
        ({"dtype": "uint32"}, "wrong type"),
        ({"surprise": 1}, "other fields"),
    ],
)
def test_header_that_lies_is_refused(shard, changes, reason):
    with_header(shard.path, **changes)
    with pytest.raises(CorruptArtifactError, match=reason) as caught:
        open_shard(shard.path)
    assert str(shard.path) in caught.value.message


@pytest.mark.parametrize("offset", [4096, 4100, 4096 + 55, 4096 + 56, -1])
def test_verify_finds_an_altered_byte(shard, offset):
    data = bytearray(shard.path.read_bytes())
    data[offset] ^= 1
    shard.path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="do not match their checksum"):
        open_shard(shard.path).verify()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(make_shard, data):
    shard = make_shard(DOCUMENTS)
    damaged = bytearray(shard.path.read_bytes())
    # The zeros between the header and the ids carry nothing.
    used = [*range(48 + struct.unpack_from("<I", damaged, 12)[0]), *range(HEADER_BYTES, len(damaged))]
    damaged[data.draw(st.sampled_from(used))] ^= 1 << data.draw(st.integers(0, 7))
    shard.path.write_bytes(damaged)
    with pytest.raises(CorruptArtifactError):
        open_shard(shard.path).verify()


def test_header_fits_its_block_whatever_the_counts():
    header = ShardHeader(
        num_tokens=2**63,
        num_documents=2**63,
        num_text_bytes=2**63,
        vocab_size=65_536,
        eos_token_id=65_535,
        tokenizer_sha256="f" * 64,
        payload_sha256="f" * 64,
    )
    assert len(header.to_bytes()) == HEADER_BYTES
