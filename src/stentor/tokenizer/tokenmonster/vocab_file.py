"""The `.vocab` format of TokenMonster 1.1: a header of 24 bytes, the token records, a table of 256 bytes.

Reading changes nothing and refuses whatever breaks a rule; `rules.py` holds the rules that tie fields together.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

from stentor.artifacts import write_file
from stentor.errors import CorruptArtifactError, UserError

NONE = 0xFFFFFF
"""Stands for `no id` and `no record` in fields of three bytes."""
MAX_TOKEN_BYTES = 40
MAX_FILE_BYTES = 1 << 26
"""Twenty times the largest published file; anything longer is not read."""
HEADER_BYTES, RECORD_TAIL = 24, struct.Struct("<BBHBHBHBf")
DUPLICATE_SCORE = -1.0
CHARSET_NONE, CHARSET_UTF8, CHARSET_UTF16 = range(3)
MODES = ("unfiltered", "clean", "balanced", "consistent", "strict", "not trained")
_AGAIN = "copy the file again from where it was published"


class Record(NamedTuple):
    """One way to spell a token; its index in the table is its name for other records."""

    token: bytes
    flag: int
    num_words: int
    alt1: int
    alt2: int
    id: int
    score: float

    @property
    def is_duplicate(self) -> bool:
        """Whether this is the second spelling of a token: a delete marker and a space stand before it."""
        return self.score < -0.5


class DeletedToken(NamedTuple):
    """A token that was taken out of a vocabulary, kept so that it can be put back."""

    token: bytes
    id: int
    score: float


class FileRecords(Sequence[Record]):
    """The records of a vocabulary file that was checked before; they are read from it when they are first wanted.

    Attributes:
        digest: SHA-256 of the file.
        tables: what kernels look things up in, if that is at hand; see `table_cache.py`.
    """

    def __init__(self, data: bytes, digest: str, records: int | tuple[Record, ...], tables: Any = None) -> None:
        self.digest, self.tables = digest, tables
        self._data = data
        self._count = records if isinstance(records, int) else len(records)
        self._records = None if isinstance(records, int) else records
        self._vocab: tuple[object, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return self._parsed()[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return self is other or self._parsed() == (other._parsed() if isinstance(other, FileRecords) else other)

    def __hash__(self) -> int:
        return hash(self._parsed())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._parsed(),)

    def bound_to(self, vocab: VocabFile) -> VocabFile:
        """Return the vocabulary with these records: it is what the file holds."""
        vocab = replace(vocab, records=self)
        self._vocab = vocab.but_records()
        return vocab

    def file_of(self, vocab: VocabFile) -> bytes | None:
        """Return the file, if it still holds just this vocabulary."""
        return self._data if vocab.but_records() == self._vocab else None

    def _parsed(self) -> tuple[Record, ...]:
        if self._records is None:
            self._records = _Reader(self._data).only_records()
        return self._records


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How text becomes what the tokens spell.

    Attributes:
        capcode: 0 none; 1 a marker that deletes, before words that follow no space; 2 markers of capitals too.
        charset: 0 bytes, 1 UTF-8.
        normalization: one bit for each step, see `normalize.py`.
        mode: which candidates training considered, an index into MODES.
        reserve: which single bytes were forced into the vocabulary, one bit for each set.
    """

    capcode: int = 2
    charset: int = CHARSET_UTF8
    normalization: int = 1
    mode: int = 2
    reserve: int = 0

    @property
    def delete_marker(self) -> bytes:
        """The byte that deletes what follows it; none without capcode."""
        return (b"", b"\x7f", b"D")[self.capcode]


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabFile:
    """A vocabulary as its file holds it.

    Attributes:
        settings: how text is prepared.
        records: sorted by length, then bytes.
        begin_byte: what kind of token mostly begins with each byte.
        unk_id: the id for bytes that no token covers, or NONE.
        num_ids: how many different ids there are, that of UNK among them.
        end_id: the highest id + 1.
        delete_id: the id of the token that is the delete marker, or NONE.
        deleted: tokens that were taken out.
    """

    settings: Settings
    records: Sequence[Record]
    begin_byte: bytes
    unk_id: int = NONE
    num_ids: int
    end_id: int
    delete_id: int = NONE
    deleted: tuple[DeletedToken, ...] = field(default=())

    @property
    def max_token_bytes(self) -> int:
        """Length of the longest record."""
        return len(self.records[-1].token)

    @property
    def origin(self) -> FileRecords | None:
        """The file that holds just this vocabulary, if it came from one."""
        return self.records if isinstance(self.records, FileRecords) and self.records.file_of(self) else None

    def but_records(self) -> tuple[object, ...]:
        """Return every other field."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__ if name != "records")

    def pieces(self) -> list[bytes]:
        """Return the bytes that each id decodes from: its last record; none for UNK and for a hole."""
        pieces = [b""] * self.end_id
        for record in self.records:
            pieces[record.id] = record.token
        return pieces


def read_vocab(path: Path) -> VocabFile:
    """Read a `.vocab` file.

    Raises:
        UserError: it cannot be read.
        CorruptArtifactError: it breaks a rule of the format, which is named.
    """
    return parse_vocab(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """Read the bytes of a file, but not many more than a vocabulary may have.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path and its permissions") from None


def write_vocab(path: Path, vocab: VocabFile) -> None:
    """Write a `.vocab` file, whole or not at all."""
    write_file(path, pack_vocab(vocab))


def pack_vocab(vocab: VocabFile) -> bytes:
    """Return the bytes of a `.vocab` file."""
    if vocab.origin is not None and (data := vocab.origin.file_of(vocab)) is not None:
        return data
    settings = vocab.settings
    header = bytes(
        [settings.capcode, settings.charset, settings.normalization, settings.mode, settings.reserve, 0, 0, 0]
    )
    counts = (vocab.unk_id, vocab.num_ids, vocab.end_id, len(vocab.records), vocab.delete_id)
    parts = [header, *map(_u24, counts), bytes([vocab.max_token_bytes])]
    for token, flag, num_words, alt1, alt2, token_id, score in vocab.records:
        parts += [bytes([len(token)]), token, bytes([flag, num_words])]
        parts += [_u24(alt1), _u24(alt2), _u24(token_id), struct.pack("<f", score)]
    parts += [vocab.begin_byte, _u24(len(vocab.deleted))]
    for token, token_id, score in vocab.deleted:
        parts += [bytes([len(token)]), token, _u24(token_id), struct.pack("<f", score)]
    return b"".join(parts)


def parse_vocab(data: bytes, where: str) -> VocabFile:
    """Read the bytes of a `.vocab` file; `where` names it in errors.

    Raises:
        CorruptArtifactError: a rule of the format is broken; it is named.
    """
    from stentor.tokenizer.tokenmonster.older_layouts import older_layout
    from stentor.tokenizer.tokenmonster.published import KNOWN_SHA256
    from stentor.tokenizer.tokenmonster.rules import check_rules

    try:
        if len(data) > MAX_FILE_BYTES:
            raise _Broken(f"it is longer than {MAX_FILE_BYTES >> 20} MiB")
        vocab = _Reader(data).vocab()
    except _Broken as broken:
        if (older := older_layout(data)) is not None:
            raise CorruptArtifactError(
                f"{where} is a TokenMonster vocabulary of an older layout ({older}), which Stentor does not read",
                fix="use a vocabulary whose name ends in -v1, or load and save this one with tokenmonster 1.1",
            ) from None
        raise CorruptArtifactError(f"{where} is not a whole TokenMonster vocabulary: {broken}", fix=_AGAIN) from None
    is_known = hashlib.sha256(data).hexdigest() in KNOWN_SHA256.values()
    if not is_known and (rule := check_rules(vocab)) is not None:
        raise CorruptArtifactError(f"{where} is damaged: {rule}", fix=_AGAIN)
    return vocab


class _Broken(Exception):  # noqa: N818 - never seen outside
    """What is wrong with the layout, as half a sentence."""


def _u24(value: int) -> bytes:
    return value.to_bytes(3, "little")


class _Reader:
    """Walk through the bytes, never past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def vocab(self) -> VocabFile:
        """Read everything; nothing may follow."""
        settings, (unk_id, num_ids, end_id, num_records, delete_id), longest = self._header()
        if num_records == 0:
            raise _Broken("it holds no tokens")
        records = self._records(num_records)
        if longest != (found := len(records[-1].token)):
            raise _Broken(f"its longest token has {found} bytes and the header says {longest}")
        begin_byte = self._take(256)
        deleted = tuple(self._deleted_token() for _ in range(self._u24()))
        if rest := len(self._data) - self._position:
            raise _Broken(f"{rest} bytes follow its end")
        return VocabFile(
            settings=settings,
            records=records,
            begin_byte=begin_byte,
            unk_id=unk_id,
            num_ids=num_ids,
            end_id=end_id,
            delete_id=delete_id,
            deleted=deleted,
        )

    def only_records(self) -> tuple[Record, ...]:
        """Read the records alone."""
        _, (_, _, _, num_records, _), _ = self._header()
        return self._records(num_records)

    def _header(self) -> tuple[Settings, list[int], int]:
        return self._settings(), [self._u24() for _ in range(5)], self._take(1)[0]

    def _take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) < count:
            raise _Broken(f"it ends too early, after {len(self._data)} bytes")
        self._position += count
        return taken

    def _u24(self) -> int:
        return int.from_bytes(self._take(3), "little")

    def _settings(self) -> Settings:
        capcode, charset, normalization, mode, reserve, *reserved = self._take(8)
        if capcode > 2:
            raise _Broken(f"its capcode level is {capcode}, and only 0, 1 and 2 exist")
        if charset > CHARSET_UTF8:
            known = (
                "UTF-16, which was never finished" if charset == CHARSET_UTF16 else f"{charset}, which does not exist"
            )
            raise _Broken(f"its charset is {known}")
        if capcode and charset != CHARSET_UTF8:
            raise _Broken(f"it has capcode {capcode} without the charset UTF-8")
        if mode >= len(MODES):
            raise _Broken(f"its mode is {mode}, and only 0 to {len(MODES) - 1} exist")
        if any(reserved):
            raise _Broken("the reserved bytes of its header are not zero")
        return Settings(capcode=capcode, charset=charset, normalization=normalization, mode=mode, reserve=reserve)

    def _records(self, count: int) -> tuple[Record, ...]:
        data, position, unpack = self._data, self._position, RECORD_TAIL.unpack_from
        last = len(data) - RECORD_TAIL.size
        records: list[Record] = []
        before = (0, b"")
        for index in range(count):
            start = position + 1
            length = data[position] if position < len(data) else 0
            if (position := start + length) > last:
                raise _Broken(f"it ends too early, within record {index} of {count}")
            token = data[start:position]
            if not before < (length, token):
                raise _Broken(f"record {index} ({token!r}) is not behind {before[1]!r} by length, then bytes")
            if length > MAX_TOKEN_BYTES:
                raise _Broken(f"record {index} has {length} bytes, more than {MAX_TOKEN_BYTES}")
            before = (length, token)
            flag, num_words, low1, high1, low2, high2, low3, high3, score = unpack(data, position)
            position += RECORD_TAIL.size
            alternatives = low1 | high1 << 16, low2 | high2 << 16
            records.append(Record(token, flag, num_words, *alternatives, low3 | high3 << 16, score))
        self._position = position
        return tuple(records)

    def _deleted_token(self) -> DeletedToken:
        length = self._take(1)[0]
        if not 0 < length <= MAX_TOKEN_BYTES:
            raise _Broken(f"a deleted token has {length} bytes, and 1 to {MAX_TOKEN_BYTES} are possible")
        return DeletedToken(self._take(length), self._u24(), struct.unpack("<f", self._take(4))[0])
