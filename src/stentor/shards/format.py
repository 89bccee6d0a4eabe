"""The file of token ids: one per split, memory-mapped, believed only after its header agrees with its length.

    0      magic (8 bytes) | version uint32 | length of the JSON uint32 | SHA-256 of the JSON (32 bytes)
    48     JSON header, then zeros up to 4,096
    4096   token ids, uint16: each document's ids followed by EOS; then zeros up to a multiple of 8
           document index: the offset in tokens at which each document starts, uint64

Every number is little endian. docs/shards.md tells the same for other programs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.base import Tokenizer

MAGIC = b"STENTOR\x1a"
VERSION = 1
HEADER_BYTES = 4096
MAX_VOCAB_SIZE = 1 << 16
_FIXED = struct.Struct("<8sII32s")
_TOKEN, _OFFSET = np.dtype("<u2"), np.dtype("<u8")
_READ_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        num_tokens: ids in the file, the EOS after each document among them.
        num_documents: entries of the document index.
        num_text_bytes: UTF-8 bytes of the documents' text, as bits per byte counts them.
        payload_sha256: of everything after the header.
    """

    num_tokens: int
    num_documents: int
    num_text_bytes: int
    vocab_size: int
    eos_token_id: int
    tokenizer_sha256: str
    payload_sha256: str
    dtype: str = "uint16"

    @property
    def index_offset(self) -> int:
        """Byte at which the document index begins."""
        return HEADER_BYTES + -(-self.num_tokens * _TOKEN.itemsize // 8) * 8

    @property
    def file_bytes(self) -> int:
        """Length that the file must have."""
        return self.index_offset + self.num_documents * _OFFSET.itemsize

    def to_bytes(self) -> bytes:
        """Return the header block."""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        fixed = _FIXED.pack(MAGIC, VERSION, len(text), hashlib.sha256(text).digest())
        return (fixed + text).ljust(HEADER_BYTES, b"\0")


class Shard:
    """A split's token ids, memory-mapped; nothing is read until it is used."""

    def __init__(self, path: Path, header: ShardHeader) -> None:
        self.path = path
        self.header = header

    @property
    def num_tokens(self) -> int:
        """Ids in the shard, the EOS after each document among them."""
        return self.header.num_tokens

    @property
    def num_documents(self) -> int:
        """Documents in the shard."""
        return self.header.num_documents

    @property
    def num_text_bytes(self) -> int:
        """UTF-8 bytes of the documents' text."""
        return self.header.num_text_bytes

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary; every id is below it."""
        return self.header.vocab_size

    @property
    def eos_token_id(self) -> int:
        """The id after each document."""
        return self.header.eos_token_id

    @property
    def tokenizer_sha256(self) -> str:
        """Fingerprint of the tokenizer that made the ids."""
        return self.header.tokenizer_sha256

    @cached_property
    def token_ids(self) -> np.memmap[Any, np.dtype[np.uint16]]:
        """All ids in order, uint16 [num_tokens]."""
        return np.memmap(self.path, dtype=_TOKEN, mode="r", offset=HEADER_BYTES, shape=(self.num_tokens,))

    @cached_property
    def document_starts(self) -> np.memmap[Any, np.dtype[np.uint64]]:
        """Where each document starts in `token_ids`, uint64 [num_documents], ascending from 0."""
        offset = self.header.index_offset
        return np.memmap(self.path, dtype=_OFFSET, mode="r", offset=offset, shape=(self.num_documents,))

    def verify(self) -> None:
        """Read the whole file and compare it with its checksum.

        Raises:
            CorruptArtifactError: a byte was altered since it was written.
        """
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            file.seek(HEADER_BYTES)
            while block := file.read(_READ_BYTES):
                digest.update(block)
        if digest.hexdigest() != self.header.payload_sha256:
            _refuse(self.path, "its token ids do not match their checksum")


class ShardWriter:
    """Write a shard as a stream; only the document index (8 bytes a document) is held in memory.

    Args:
        file: an empty seekable file.
        tokenizer: whose ids will be added.
    """

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer) -> None:
        require_uint16(tokenizer)
        self._file, self._tokenizer = file, tokenizer
        self._digest = hashlib.sha256()
        self._starts = array("Q")
        self.num_tokens = self.num_text_bytes = 0
        file.write(bytes(HEADER_BYTES))

    @property
    def num_documents(self) -> int:
        """Documents added so far."""
        return len(self._starts)

    def add(self, documents_ids: Iterable[Sequence[int]], *, num_text_bytes: int) -> None:
        """Append documents.

        Args:
            documents_ids: ids of each document, without EOS.
            num_text_bytes: UTF-8 bytes of their texts together.
        """
        stream = array("H")
        eos_token_id = self._tokenizer.eos_token_id
        for ids in documents_ids:
            self._starts.append(self.num_tokens + len(stream))
            stream.extend(ids)
            stream.append(eos_token_id)
        self.num_tokens += len(stream)
        self.num_text_bytes += num_text_bytes
        self._write(np.asarray(stream, dtype=_TOKEN).tobytes())

    def finish(self) -> ShardHeader:
        """Write the document index and the header."""
        self._write(bytes(-self.num_tokens * _TOKEN.itemsize % 8))
        self._write(np.asarray(self._starts, dtype=_OFFSET).tobytes())
        header = ShardHeader(
            num_tokens=self.num_tokens,
            num_documents=self.num_documents,
            num_text_bytes=self.num_text_bytes,
            vocab_size=self._tokenizer.vocab_size,
            eos_token_id=self._tokenizer.eos_token_id,
            tokenizer_sha256=self._tokenizer.sha256,
            payload_sha256=self._digest.hexdigest(),
        )
        self._file.seek(0)
        self._file.write(header.to_bytes())
        return header

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def open_shard(path: Path) -> Shard:
    """Open a shard; the header is checked, its counts against the file's length, before any is believed.

    Raises:
        UserError: there is no such file.
        CorruptArtifactError: the file is truncated, extended, altered in its header, of a newer version or no shard.
    """
    try:
        with path.open("rb") as file:
            block = file.read(HEADER_BYTES)
            size_bytes = file.seek(0, 2)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    header = _parse_header(path, block)
    if size_bytes != header.file_bytes:
        _refuse(path, f"it has {size_bytes} bytes, its header says {header.file_bytes}")
    return Shard(path, header)


def require_uint16(tokenizer: Tokenizer) -> None:
    """Refuse a vocabulary whose ids do not fit two bytes."""
    if tokenizer.vocab_size > MAX_VOCAB_SIZE:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, a shard holds ids below {MAX_VOCAB_SIZE}",
            fix="use a smaller vocabulary",
        )


def _parse_header(path: Path, block: bytes) -> ShardHeader:
    if block[: len(MAGIC)] != MAGIC:
        _refuse(path, "it is no shard of token ids")
    if len(block) < HEADER_BYTES:
        _refuse(path, f"it ends within its header, after {len(block)} bytes")
    _, version, json_bytes, digest = _FIXED.unpack_from(block)
    if version != VERSION:
        raise CorruptArtifactError(
            f"{path} has format {version}, this Stentor reads {VERSION}",
            fix="upgrade Stentor: pip install -U stentor",
        )
    text = block[_FIXED.size : _FIXED.size + json_bytes]
    if len(text) != json_bytes or hashlib.sha256(text).digest() != digest:
        _refuse(path, "its header was altered")
    try:
        header = ShardHeader(**json.loads(text))
    except (TypeError, ValueError, RecursionError):
        _refuse(path, "its header has other fields than it should")
    _check_header(path, header)
    return header


def _check_header(path: Path, header: ShardHeader) -> None:
    counts = (header.num_tokens, header.num_documents, header.num_text_bytes, header.vocab_size, header.eos_token_id)
    if not all(type(count) is int for count in counts) or header.dtype != "uint16":
        _refuse(path, "its header has values of the wrong type")
    if not (
        1 <= header.num_documents <= header.num_tokens
        and header.num_text_bytes >= 0
        and 0 <= header.eos_token_id < header.vocab_size <= MAX_VOCAB_SIZE
    ):
        _refuse(path, "its header has counts that cannot be")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CorruptArtifactError(f"{path} cannot be used: {reason}", fix="make the shards again: stentor prepare")
