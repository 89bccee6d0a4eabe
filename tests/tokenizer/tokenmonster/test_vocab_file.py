"""The .vocab format: every published file comes back byte for byte; damage is named, and never costs time or memory."""

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stentor.artifacts import sha256_of_file
from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.tokenmonster.older_layouts import older_layout
from stentor.tokenizer.tokenmonster.rules import check_rules
from stentor.tokenizer.tokenmonster.vocab_file import (
    MAX_FILE_BYTES,
    NONE,
    DeletedToken,
    pack_vocab,
    parse_vocab,
    read_vocab,
    write_vocab,
)


def packed(vocab) -> bytes:
    return pack_vocab(vocab)


def refusal(data: bytes) -> str:
    with pytest.raises(CorruptArtifactError) as error:
        parse_vocab(data, "x.vocab")
    return error.value.message


def record_start(vocab, index: int) -> int:
    """Return where a record begins in the file."""
    return 24 + sum(16 + len(record.token) for record in vocab.records[:index])


def test_what_is_written_is_read(small_vocab, tmp_path):
    path = tmp_path / "small.vocab"
    write_vocab(path, small_vocab)
    assert read_vocab(path) == small_vocab


def test_the_header_is_where_the_format_puts_it(small_vocab):
    data = packed(small_vocab)
    assert data[:8] == bytes([2, 1, 1, 2, 0, 0, 0, 0])
    assert data[8:11] == b"\xff\xff\xff"
    assert int.from_bytes(data[17:20], "little") == len(small_vocab.records)
    assert data[23] == max(len(record.token) for record in small_vocab.records)


def test_deleted_tokens_are_kept(small_vocab):
    kept = replace(small_vocab, deleted=(DeletedToken(b" gone", 77, 0.5), DeletedToken(b"x", NONE, 0.0)))
    assert parse_vocab(packed(kept), "") == kept


def test_an_id_decodes_from_its_last_record(small_vocab):
    index_of = {record.token: record.id for record in small_vocab.records}
    pieces = small_vocab.pieces()
    assert pieces[index_of[b"he"]] == b"D he"
    assert pieces[index_of[b" hello"]] == b" hello"
    assert pieces[index_of[b"C"]] == b"C"


def test_unk_has_no_bytes(small_vocab):
    with_unk = replace(
        small_vocab, unk_id=small_vocab.end_id, num_ids=small_vocab.num_ids + 1, end_id=small_vocab.end_id + 1
    )
    assert parse_vocab(packed(with_unk), "") == with_unk
    assert with_unk.pieces()[with_unk.unk_id] == b""


def test_holes_that_the_header_declares_are_read(small_vocab):
    """The published `llama` has 31,903 ids below 32,000."""
    records = tuple(record._replace(id=record.id + 9 * (record.id > 30)) for record in small_vocab.records)
    moved = {record.token: record.id for record in records}
    holed = replace(small_vocab, records=records, end_id=small_vocab.end_id + 9, delete_id=moved[b"D"])
    assert parse_vocab(packed(holed), "") == holed


def test_published_files_come_back_byte_for_byte(published, vocabs):
    for name in ("english-8000-balanced-v1", "english-4096-strict-nocapcode-v1"):
        assert pack_vocab(published(name)) == (vocabs / f"{name}.vocab").read_bytes()


@pytest.mark.slow
def test_every_published_file_comes_back_byte_for_byte(vocabs):
    """And keeps every rule: its record table, built again from the bare tokens, is the stored one."""
    lines = (vocabs / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    files = sorted(vocabs.glob("*.vocab"))
    assert len(files) == 14
    for file in files:
        assert sums[file.name] == sha256_of_file(file)
        assert pack_vocab(read_vocab(file)) == file.read_bytes()
        assert check_rules(read_vocab(file)) is None


# --- bad input -------------------------------------------------------------------------------------------------


def test_every_truncation_is_refused(small_vocab):
    data = packed(small_vocab)
    for length in range(len(data)):
        assert "not a whole" in refusal(data[:length])


def test_what_follows_the_end_is_refused(small_vocab):
    assert "2 bytes follow its end" in refusal(packed(small_vocab) + b"\0\0")


def test_a_flipped_bit_is_refused(small_vocab):
    """Bits that say nothing the rest does not say cannot be told from another vocabulary: the settings, the scores."""
    data = packed(small_vocab)
    free = {2, 3, 4}  # normalization, mode, reserve
    for index, record in enumerate(small_vocab.records):
        end = record_start(small_vocab, index) + 16 + len(record.token)
        free |= set(range(end - 4, end))
    tokens = {
        position
        for index, record in enumerate(small_vocab.records)
        for position in range(
            record_start(small_vocab, index) + 1, record_start(small_vocab, index) + 1 + len(record.token)
        )
    }
    source = random.Random(4)
    for position in source.sample(sorted(set(range(len(data))) - free - tokens), 150):
        damaged = bytearray(data)
        damaged[position] ^= 1 << source.randrange(8)
        refusal(bytes(damaged))


@pytest.mark.parametrize(
    ("position", "value", "rule"),
    [
        (0, 3, "capcode level is 3"),
        (0, 1, "delete marker"),
        (0, 0, "delete marker"),
        (1, 0, "without the charset UTF-8"),
        (1, 2, "UTF-16"),
        (1, 9, "charset is 9"),
        (3, 6, "mode is 6"),
        (6, 1, "reserved bytes"),
        (8, 3, "unknown bytes"),
        (11, 3, "holes"),
        (14, 1, "holes"),
        (23, 41, "longest token"),
    ],
)
def test_a_wrong_header_names_its_rule(small_vocab, position, value, rule):
    data = bytearray(packed(small_vocab))
    data[position] = value
    if position == 8:
        data[9:11] = b"\0\0"
    assert rule in refusal(bytes(data))


def changed(vocab, index: int, **fields) -> bytes:
    records = list(vocab.records)
    records[index] = records[index]._replace(**fields)
    return packed(replace(vocab, records=tuple(records)))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"flag": 64}, "num_words 1"),
        ({"flag": 0}, "flag 0"),
        ({"num_words": 250}, "num_words 250"),
        ({"alt1": 70}, "alt1 70"),
        ({"alt1": NONE}, "alt1 16777215"),
        ({"id": 3}, "same id"),
        ({"id": 5000}, "holes"),
        ({"score": float("nan")}, "score nan"),
        ({"score": float("inf")}, "score inf"),
        ({"score": -0.5}, "score -0.5"),
        ({"score": -1.0}, "records|holes"),
        ({"token": b"zz zz"}, "not behind"),
    ],
)
def test_a_wrong_record_names_its_rule(small_vocab, fields, rule):
    index = next(i for i, record in enumerate(small_vocab.records) if record.token == b" hello")
    message = refusal(changed(small_vocab, index, **fields))
    assert any(part in message for part in rule.split("|")), message


@pytest.mark.parametrize("unk_id", [1 << 17, NONE - 1])
def test_ids_far_above_the_others_are_refused(small_vocab, unk_id):
    """Three hundred bytes asked for a table of sixteen million ids."""
    sparse = replace(small_vocab, unk_id=unk_id, num_ids=small_vocab.num_ids + 1, end_id=unk_id + 1)
    assert f"the highest is {unk_id}" in refusal(packed(sparse))
    allowed = replace(sparse, unk_id=1 << 16, end_id=(1 << 16) + 1)
    assert parse_vocab(packed(allowed), "") == allowed


def test_a_token_twice_is_refused(small_vocab):
    records = small_vocab.records
    assert "not behind" in refusal(packed(replace(small_vocab, records=(*records, records[-1]))))


def test_a_token_over_forty_bytes_is_refused(small_vocab):
    long = small_vocab.records[-1]._replace(token=b"x" * 41)
    assert "41 bytes, more than 40" in refusal(packed(replace(small_vocab, records=(*small_vocab.records, long))))


def test_an_empty_file_and_an_empty_table_are_refused():
    assert "ends too early" in refusal(b"")
    assert "no tokens" in refusal(bytes(24) + bytes(259))


def test_a_count_beyond_the_file_costs_nothing():
    """Sixteen million records are announced and none follows."""
    assert "ends too early" in refusal(bytes([2, 1]) + bytes(6) + b"\xfe\xff\xff" * 5 + b"\x28")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.vocab"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES * 4)
    with pytest.raises(CorruptArtifactError, match="longer than 64 MiB"):
        read_vocab(path)


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_vocab(tmp_path / "none.vocab")
    with pytest.raises(UserError, match="cannot be read"):
        read_vocab(tmp_path)


@given(st.binary(max_size=600))
@example(b"\x02\x01\x01\x02\x00" + bytes(100))
def test_random_bytes_are_refused(data):
    refusal(data)


@given(st.data())
def test_random_damage_is_refused_or_read_as_something_sound(small_vocab, data):
    raw = bytearray(packed(small_vocab))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        vocab = parse_vocab(bytes(raw), "")
    except CorruptArtifactError:
        return
    assert pack_vocab(vocab) == raw


# --- older layouts ---------------------------------------------------------------------------------------------


def july(vocab) -> bytes:
    body = b"".join(
        bytes([len(r.token)]) + r.token + bytes([r.flag, r.num_words]) + b"\xff" * 6 + struct.pack("<f", r.score)
        for r in vocab.records
    )
    return bytes([1, 0, 1, 2, 36, 0]) + len(vocab.records).to_bytes(3, "little") + b"\x05\0\0" + body + bytes(256)


def may(vocab) -> bytes:
    body = b"".join(bytes([len(r.token)]) + r.token + bytes(8) for r in vocab.records)
    return bytes([1, 1]) + len(vocab.records).to_bytes(3, "little") + body


def test_older_layouts_are_recognised(small_vocab):
    assert "older layout (3 to 10 July 2023)" in refusal(july(small_vocab))
    assert "older layout (May or June 2023)" in refusal(may(small_vocab))


@given(st.randoms(use_true_random=False))
def test_random_bytes_are_no_older_layout(source: random.Random):
    assert older_layout(source.randbytes(300)) is None
