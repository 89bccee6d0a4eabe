"""Stage 1 as a whole: a source becomes the folder `corpus/`, with training and held-out documents."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from stentor.artifacts import Staging, staged_directory, verify_directory
from stentor.config import TextConfig
from stentor.errors import CorruptArtifactError, UserError
from stentor.text.clean import clean_documents, clean_text
from stentor.text.document import Document, Tally
from stentor.text.readers import read_documents
from stentor.text.sources import open_source
from stentor.text.split import TRAIN, VALIDATION, HeldOut, SplitName, Splitter

KIND = "corpus"
_FILES: dict[SplitName, str] = {TRAIN: "train.jsonl.zst", VALIDATION: "validation.jsonl.zst"}
_COMPRESSION_LEVEL = 1
_PROGRESS_EVERY = 100
_Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A sealed folder of training and held-out documents.

    Attributes:
        path: the folder.
        details: how it was made: `config`, `splits` (documents, bytes and SHA-256 of each), `sha256`, `tally`.
    """

    path: Path
    details: dict[str, Any]

    def documents(self, split: SplitName) -> Iterator[Document]:
        """Yield the documents of `train` or `validation` in order.

        Raises:
            CorruptArtifactError: the file is damaged.
        """
        path = self.path / _FILES[split]
        tally = Tally()
        try:
            yield from read_documents(path, path.name, tally)
        except UserError as error:
            raise CorruptArtifactError(error.message, fix="make this corpus again") from None
        if tally.num_read:
            raise CorruptArtifactError(f"{path} has lines that are damaged", fix="make this corpus again")

    def num_documents(self, split: SplitName) -> int:
        """Return the number of documents of `train` or `validation`."""
        return self.details["splits"][split]["num_documents"]

    def num_text_bytes(self, split: SplitName) -> int:
        """Return the UTF-8 bytes of all texts of `train` or `validation`."""
        return self.details["splits"][split]["num_text_bytes"]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of all texts: equal corpora have equal ones, on any machine."""
        return self.details["sha256"]


def open_corpus(path: Path) -> Corpus:
    """Open a corpus that `prepare_corpus` made.

    Raises:
        UserError: there is none at `path`.
        CorruptArtifactError: its manifest is damaged, or a file is missing or was altered.
    """
    return Corpus(path, verify_directory(path, kind=KIND).details)


def prepare_corpus(
    config: TextConfig, destination: Path, *, replace: bool = False, on_progress: _Progress | None = None
) -> Corpus:
    """Read, clean, deduplicate and split a source in one pass, and seal the result as a folder.

    Args:
        config: the source and what is kept of it.
        destination: the folder to make.
        replace: replace an existing folder.
        on_progress: called now and then with the training documents and bytes kept so far.

    Returns:
        The corpus; its `sha256` depends on the texts and their order alone.

    Raises:
        UserError: the source or the split is wrong, the output exists, or nothing is left to train on or to hold out.
    """
    held_out, tally = HeldOut.parse(config.validation), Tally()
    validation = open_source(held_out.spec, tally) if held_out.kind == "file" else None
    source = open_source(config.source, tally)
    with staged_directory(destination, kind=KIND, replace=replace) as staging:
        with _writer(staging, TRAIN) as train_file, _writer(staging, VALIDATION) as validation_file:
            writers: dict[SplitName, _Writer] = {TRAIN: train_file, VALIDATION: validation_file}
            splitter = Splitter(held_out, tally)
            for document in validation or ():
                splitter.hold_out(clean_text(document.text))
                validation_file.write(document)
                tally.kept(document)
            documents = clean_documents(source, min_characters=config.min_characters, tally=tally)
            _write_all(splitter.split(documents), writers, tally, config.max_bytes, on_progress)
        _require_both_sides(writers, config, tally)
        staging.details.update(_details(config, writers, tally))
    return open_corpus(destination)


def _write_all(
    documents: Iterator[tuple[SplitName, Document]],
    writers: dict[SplitName, _Writer],
    tally: Tally,
    max_bytes: int,
    on_progress: _Progress | None,
) -> None:
    """Write until the source ends or the training side has `max_bytes` (0: no bound)."""
    train = writers[TRAIN]
    for side, document in documents:
        writers[side].write(document)
        tally.kept(document)
        if on_progress and side == TRAIN and train.num_documents % _PROGRESS_EVERY == 0:
            on_progress(train.num_documents, train.num_text_bytes)
        if max_bytes and train.num_text_bytes >= max_bytes:
            break
    if on_progress:
        on_progress(train.num_documents, train.num_text_bytes)


def _require_both_sides(writers: dict[SplitName, _Writer], config: TextConfig, tally: Tally) -> None:
    num_train, num_validation = writers[TRAIN].num_documents, writers[VALIDATION].num_documents
    if not num_train:
        raise UserError(
            f"no training document is left of {config.source}: {tally.num_read} were "
            f"read, {num_validation} held out ({config.validation}), dropped: {tally.reasons()}",
            fix="give more text, lower text.min_characters, or hold out less with text.validation",
        )
    if not num_validation:
        raise UserError(
            f"no document is held out of {config.source} by {config.validation} ({num_train} are left to train on)",
            fix="set text.validation to take:1 or more, to a larger hash:FRACTION, or to file:SPEC",
        )


def _details(config: TextConfig, writers: dict[SplitName, _Writer], tally: Tally) -> dict[str, Any]:
    splits = {split: writer.summary() for split, writer in writers.items()}
    digest = hashlib.sha256("".join(f"{split} {splits[split]['sha256']}\n" for split in _FILES).encode())
    return {"config": asdict(config), "sha256": digest.hexdigest(), "splits": splits, "tally": tally.summary()}


@dataclass(slots=True)
class _Writer:
    """Writes documents as JSON lines and keeps their count, size and digest."""

    file: Any
    num_documents: int = 0
    num_text_bytes: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def write(self, document: Document) -> None:
        line = json.dumps({"text": document.text, "id": document.id, "source": document.source}, ensure_ascii=False)
        data = document.text.encode()
        self.file.write(line.encode() + b"\n")
        self._digest.update(len(data).to_bytes(8, "little") + data)
        self.num_documents += 1
        self.num_text_bytes += len(data)

    def summary(self) -> dict[str, Any]:
        return {
            "num_documents": self.num_documents,
            "num_text_bytes": self.num_text_bytes,
            "sha256": self._digest.hexdigest(),
        }


@contextlib.contextmanager
def _writer(staging: Staging, split: SplitName) -> Iterator[_Writer]:
    # One thread and a fixed level: the same documents give the same bytes. The checksum is verified on every reading.
    compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL, write_checksum=True)
    with staging.open(_FILES[split]) as raw, compressor.stream_writer(raw, closefd=False) as file:
        yield _Writer(file)
