"""A vocabulary that was opened before opens in a few milliseconds: its tables are kept in the user's cache folder.

The name of a cache file says of which vocabulary it is (SHA-256) and which version of this code made it, and a
checksum says that it is whole. Whatever else is found there, and a folder that cannot be written, means only that
the tables are made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import sys
import zlib
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.artifacts import write_file
from stentor.errors import StentorError
from stentor.tokenizer.tokenmonster.tables import VocabArrays, vocab_arrays
from stentor.tokenizer.tokenmonster.vocab_file import (
    DeletedToken,
    FileRecords,
    Settings,
    VocabFile,
    parse_vocab,
    read_file,
)

_HEAD = struct.Struct("<16sII")
"""Magic, checksum of what follows, length of the description; then the description and each array, all aligned."""
_MAGIC, _ALIGNMENT = b"stentor tables\n\0", 64
_BROKEN = (OSError, ValueError, KeyError, TypeError, IndexError, struct.error, RuntimeError)
"""What reading a file that is not as it was written may raise; RuntimeError is that of a user without a home."""


def open_vocab(path: Path) -> VocabFile:
    """Read a `.vocab` file; one that was encoded with before is neither parsed nor checked again.

    Raises:
        UserError: it cannot be read.
        CorruptArtifactError: it breaks a rule of the format, which is named.
    """
    data = read_file(path)
    digest = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(*_BROKEN):
        return _unpacked(cache_path(digest).read_bytes(), data, digest)
    vocab = parse_vocab(data, str(path))
    return FileRecords(data, digest, tuple(vocab.records)).bound_to(vocab)


def arrays_of(vocab: VocabFile) -> VocabArrays:
    """Return the tables of a vocabulary; those of a file are kept for the next process.

    Raises:
        UserError: it is larger than the kernels' tables can address.
    """
    origin = vocab.origin
    if origin is None:
        return vocab_arrays(vocab)
    if origin.tables is None:
        origin.tables = vocab_arrays(vocab)
        with contextlib.suppress(StentorError, *_BROKEN):
            _keep(vocab, origin.digest, origin.tables)
    return origin.tables


def cache_path(digest: str) -> Path:
    """Return where the tables of a vocabulary are kept by this version of the code.

    Raises:
        RuntimeError: the user has no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return base / "stentor" / "tokenmonster" / f"{digest[:32]}-{_stamp()}.tables"


@cache
def _stamp() -> str:
    """Return a digest of all code that tables depend on, and of what they look like on this machine."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    code = b"\0".join(file.read_bytes() for file in files)
    return hashlib.sha256(code + f"{sys.byteorder} {np.intp(0).itemsize}".encode()).hexdigest()[:16]


def _keep(vocab: VocabFile, digest: str, arrays: VocabArrays) -> None:
    path = cache_path(digest)
    write_file(path, _packed(vocab, digest, arrays))
    for other in path.parent.glob(f"{digest[:32]}-*.tables"):  # of other versions of this code
        if other != path:
            other.unlink()


def _packed(vocab: VocabFile, digest: str, arrays: VocabArrays) -> bytes:
    named = {name: value for name, value in arrays._asdict().items() if isinstance(value, np.ndarray)}
    deleted = [(token.token.hex(), token.id, token.score) for token in vocab.deleted]
    description = {
        "sha256": digest,
        "settings": asdict(vocab.settings),
        "fields": {name: getattr(vocab, name) for name in ("unk_id", "num_ids", "end_id", "delete_id")},
        "deleted": deleted,
        "num_records": len(vocab.records),
        "numbers": {name: value for name, value in arrays._asdict().items() if name not in named},
        "arrays": {name: [array.dtype.str, array.size] for name, array in named.items()},
    }
    parts = [_padded(json.dumps(description).encode()), *(_padded(array.tobytes()) for array in named.values())]
    body = b"".join(parts)
    return _padded(_HEAD.pack(_MAGIC, zlib.crc32(body), len(parts[0]))) + body


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)


def _unpacked(stored: bytes, data: bytes, digest: str) -> VocabFile:
    magic, checksum, length = _HEAD.unpack_from(stored)
    body = memoryview(stored)[_ALIGNMENT:]
    if magic != _MAGIC or zlib.crc32(body) != checksum:
        raise ValueError("damaged")
    description = json.loads(bytes(body[:length]).rstrip(b"\0"))
    if description["sha256"] != digest:
        raise ValueError("of another vocabulary")
    arrays, position = {}, length
    for name, (dtype, count) in description["arrays"].items():
        arrays[name] = _array(body, position, dtype, count)
        position += arrays[name].nbytes + -arrays[name].nbytes % _ALIGNMENT
    tables = VocabArrays(**arrays, **description["numbers"])
    records = FileRecords(data, digest, description["num_records"], tables)
    vocab = VocabFile(
        settings=Settings(**description["settings"]),
        records=records,
        begin_byte=tables.begin_byte.tobytes(),
        deleted=tuple(DeletedToken(bytes.fromhex(token), *rest) for token, *rest in description["deleted"]),
        **description["fields"],
    )
    return records.bound_to(vocab)


def _array(body: memoryview, position: int, dtype: str, count: int) -> NDArray[Any]:
    """Return an array of its own: kernels are compiled for arrays that may be written to."""
    return np.frombuffer(body, dtype, count, position).copy()
