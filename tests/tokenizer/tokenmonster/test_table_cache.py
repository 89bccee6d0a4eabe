"""What comes from the cache is what is in the file; whatever is wrong with the cache, ids never are."""

import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stentor.artifacts import write_file
from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.tokenmonster import table_cache
from stentor.tokenizer.tokenmonster.encoder import Encoder
from stentor.tokenizer.tokenmonster.table_cache import arrays_of, cache_path, open_vocab
from stentor.tokenizer.tokenmonster.tables import vocab_arrays
from stentor.tokenizer.tokenmonster.vocab_file import DeletedToken, pack_vocab, parse_vocab, write_vocab

TEXT = b"Hello the cat's world, of the CATS 12.\n"


@pytest.fixture
def vocab(small_vocab):
    return replace(small_vocab, deleted=(DeletedToken(b"gone", 5, 0.25),))


@pytest.fixture
def path(vocab, tmp_path):
    write_vocab(tmp_path / "it.vocab", vocab)
    return tmp_path / "it.vocab"


@pytest.fixture
def cached(path):
    """Return the cache file after the vocabulary was used once."""
    opened = open_vocab(path)
    assert opened.origin is not None
    assert opened.origin.tables is None
    Encoder(opened)
    return cache_path(opened.origin.digest)


def kind(array):
    """Return what decides which compiled kernel takes an array."""
    return array.dtype, array.ndim, array.flags.c_contiguous, array.flags.aligned, array.flags.writeable


def same(one, other) -> bool:
    return all(
        kind(a) == kind(b) and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(one, other, strict=True)
    )


def test_what_is_cached_is_what_is_in_the_file(vocab, path, cached):
    opened = open_vocab(path)
    assert opened.origin is not None
    assert opened.origin.tables is not None
    assert same(arrays_of(opened), vocab_arrays(vocab))  # and of the same kind: no kernel is compiled for another
    assert opened == vocab
    assert vocab == opened
    assert hash(opened) == hash(vocab)
    assert pack_vocab(opened) == path.read_bytes()
    assert opened.pieces() == vocab.pieces()
    assert len(opened.records) == len(vocab.records)
    assert opened.records[-1] == vocab.records[-1]
    assert opened.records[2:4] == vocab.records[2:4]


def test_nothing_is_parsed_or_checked_again(path, cached, monkeypatch):
    monkeypatch.setattr(table_cache, "parse_vocab", lambda *_: pytest.fail("parsed"))
    monkeypatch.setattr(table_cache, "vocab_arrays", lambda *_: pytest.fail("made"))
    assert Encoder(open_vocab(path)).encode([TEXT])[0].size
    tokenizer = Tokenizer.load(path)
    assert tokenizer.decode_bytes(tokenizer.encode(b" hello")) == b" hello"
    assert len(tokenizer.sha256) == 64


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "magic", "folder", "other", "grown"])
def test_a_damaged_file_is_made_again(vocab, path, cached, damage, make_vocab, tmp_path):
    data = bytearray(cached.read_bytes())
    if damage == "other":
        other = tmp_path / "other.vocab"
        write_vocab(other, make_vocab([b"a", b"b"]))
        Encoder(opened := open_vocab(other))
        assert opened.origin is not None
        data = cache_path(opened.origin.digest).read_bytes()
    elif damage == "flipped":
        data[len(data) // 2] ^= 4
    elif damage == "magic":
        data[0] ^= 1
    data = {"truncated": data[: len(data) // 2], "empty": b"", "grown": data + b"x"}.get(damage, data)
    if damage == "folder":
        cached.unlink()
        cached.mkdir()
    else:
        write_file(cached, bytes(data))
    opened = open_vocab(path)
    assert opened.origin is not None
    assert opened.origin.tables is None
    assert same(arrays_of(opened), vocab_arrays(vocab))
    if damage != "folder":
        reopened = open_vocab(path)
        assert reopened.origin is not None
        assert reopened.origin.tables is not None


def test_every_truncation_and_many_flips_are_seen(path, cached):
    whole = cached.read_bytes()
    for end in [*range(0, 2000, 7), *range(2000, len(whole), 4099)]:
        cached.write_bytes(whole[:end])
        assert open_vocab(path).origin.tables is None, end  # type: ignore[union-attr]
    for place in range(24, len(whole), len(whole) // 60):
        cached.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        tables = open_vocab(path).origin.tables  # type: ignore[union-attr]
        assert tables is None or place < 64  # between the header and what follows nothing is read


def test_another_version_of_the_code_makes_its_own(path, cached, monkeypatch):
    monkeypatch.setattr(table_cache, "_stamp", lambda: "0" * 16)
    opened = open_vocab(path)
    assert opened.origin is not None
    assert opened.origin.tables is None
    Encoder(opened)
    assert cache_path(opened.origin.digest).is_file()
    assert not cached.exists()  # no rubbish is left of the version before


@pytest.mark.parametrize("where", ["a file", "a place nobody may write"])
def test_a_cache_that_cannot_be_written_is_none(vocab, path, monkeypatch, tmp_path, where):
    folder = tmp_path / "cache"
    if where == "a file":
        folder.write_text("no folder")
    else:
        monkeypatch.setattr(table_cache, "write_file", _refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    assert same(arrays_of(open_vocab(path)), vocab_arrays(vocab))


def _refuse(path, data):
    raise UserError("no")


def test_a_user_without_a_home_needs_none(vocab, path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(table_cache.Path, "expanduser", _no_home)
    assert same(arrays_of(open_vocab(path)), vocab_arrays(vocab))


def _no_home(path):
    raise RuntimeError("Could not determine home directory.")


def test_what_was_changed_since_is_not_the_file(path, cached, vocab):
    opened = open_vocab(path)
    changed = replace(opened, unk_id=opened.end_id, num_ids=opened.num_ids + 1, end_id=opened.end_id + 1)
    assert changed.origin is None
    assert arrays_of(changed).unk_id == changed.unk_id
    assert parse_vocab(pack_vocab(changed), "it") == changed != opened


def test_a_bad_file_is_refused_each_time_and_leaves_nothing(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(CorruptArtifactError, match="ends too early"):
            open_vocab(path)
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).iterdir())


def test_a_tokenizer_travels_without_its_cache(path, cached):
    tokenizer = Tokenizer.load(path)
    expected = tokenizer.encode(TEXT)
    shutil.rmtree(cached.parent)
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXT) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such variable")
def test_the_place_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path("a" * 64).parent == tmp_path / ".cache" / "stentor" / "tokenmonster"
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "x"))
    assert cache_path("a" * 64).parent == tmp_path / "x" / "stentor" / "tokenmonster"
