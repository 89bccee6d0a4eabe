"""Documents and a tokenizer -> a sealed folder: train.bin, validation.bin and the tokenizer's own files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from stentor.artifacts import Staging, staged_directory, verify_directory
from stentor.errors import CorruptArtifactError, UserError
from stentor.shards.format import Shard, ShardWriter, open_shard, require_uint16
from stentor.tokenizer.base import Losses, Tokenizer
from stentor.tokenizer.chunks import chunked

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
_LOSSES = [field.name for field in fields(Losses)]


class HasText(Protocol):
    """Anything with a text, such as a document of stage 1."""

    @property
    def text(self) -> str:
        """The text."""
        ...


class HasDocuments(Protocol):
    """A corpus: its documents by split, and what identifies it."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What the corpus's manifest says; `sha256` is its fingerprint."""
        ...

    def documents(self, split: Split, /) -> Iterable[HasText]:
        """The documents of a split, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Shards:
    """The token ids of both splits and the tokenizer that made them.

    Attributes:
        losses: what the ids of each split do not give back of its text.
    """

    path: Path
    train: Shard
    validation: Shard
    tokenizer: Tokenizer
    losses: Mapping[Split, Losses]


def build_shards(
    documents: Callable[[Split], Iterable[HasText]] | HasDocuments,
    tokenizer: Tokenizer,
    destination: Path,
    *,
    replace: bool = False,
    num_workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Shards:
    """Tokenise a corpus into a sealed folder of kind `shards`; the same bytes for any number of workers.

    Args:
        documents: a corpus, or a function that gives the documents of `train` and of `validation`.
        tokenizer: at most 65,536 tokens.
        destination: the folder to make.
        replace: an existing folder is replaced.
        num_workers: threads that tokenise; None uses every core.
        on_progress: called now and then with the documents and the text bytes done so far.

    Raises:
        UserError: a split has no documents, the vocabulary is too large, or the destination exists.
    """
    require_uint16(tokenizer)
    corpus_sha256 = None if callable(documents) else documents.details.get("sha256")
    read = documents if callable(documents) else documents.documents
    progress = _Progress(on_progress)
    with staged_directory(destination, kind="shards", replace=replace) as staging:
        for name, data in tokenizer.files().items():
            staging.write(name, data)
        counts = {
            split: _write_split(staging, split, _texts(read(split)), tokenizer, num_workers, progress)
            for split in SPLITS
        }
        staging.details.update(
            tokenizer_sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            **counts,
        )
        if corpus_sha256 is not None:
            staging.details["corpus_sha256"] = corpus_sha256
    return open_shards(destination)


def open_shards(path: Path) -> Shards:
    """Open a folder that `build_shards` made; every byte is checked, for an altered id would be learned from.

    Raises:
        UserError: it is no folder of shards.
        CorruptArtifactError: a file is damaged, or the files do not belong together.
    """
    details = verify_directory(path, kind="shards").details
    tokenizer = Tokenizer.load(path)
    train, validation = (open_shard(_shard_path(path, split)) for split in SPLITS)
    for shard in (train, validation):
        made_with = shard.tokenizer_sha256, shard.vocab_size, shard.eos_token_id
        if made_with != (tokenizer.sha256, tokenizer.vocab_size, tokenizer.eos_token_id):
            raise CorruptArtifactError(
                f"{shard.path} was made with another tokenizer than the one beside it",
                fix="make the shards again: stentor prepare",
            )
    try:
        losses: dict[Split, Losses] = {
            split: Losses(**{name: int(details[split].get(name, 0)) for name in _LOSSES}) for split in SPLITS
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise CorruptArtifactError(
            f"the manifest of {path} does not say what its ids leave out", fix="make the shards again: stentor prepare"
        ) from None
    return Shards(path, train, validation, tokenizer, losses)


class _Progress:
    """Adds up what both splits have done."""

    def __init__(self, on_progress: Callable[[int, int], None] | None) -> None:
        self._on_progress = on_progress
        self._num_documents = self._num_bytes = 0

    def advance(self, num_documents: int, num_bytes: int) -> None:
        self._num_documents += num_documents
        self._num_bytes += num_bytes
        if self._on_progress:
            self._on_progress(self._num_documents, self._num_bytes)


def _shard_path(folder: Path, split: Split) -> Path:
    return folder / f"{split}.bin"


def _texts(documents: Iterable[HasText]) -> Iterator[str]:
    return (document.text for document in documents)


def _write_split(
    staging: Staging,
    split: Split,
    texts: Iterable[str],
    tokenizer: Tokenizer,
    num_workers: int | None,
    progress: _Progress,
) -> dict[str, int]:
    """Write a split and return its counts."""
    losses = Losses()
    with staging.open(_shard_path(Path(), split).name) as file:
        writer = ShardWriter(file, tokenizer)
        # The tokenizer's own threads do the work: measured on 2 cores, BPE 4.3 MB/s on one thread and 6 on two. Worker
        # processes could gain at most the rest, and reading and cleaning the text, which feed them, are slower still.
        for chunk in chunked(texts):
            raw = [text.encode(errors="replace") for text in chunk]
            num_bytes = sum(map(len, raw))
            ids = tokenizer.encode_batch(chunk, num_threads=num_workers)
            writer.add(ids, num_text_bytes=num_bytes)
            losses += tokenizer.losses(raw, ids)
            progress.advance(len(chunk), num_bytes)
        if not writer.num_documents:
            raise UserError(f"the {split} split has no documents", fix="give more text, or another text.validation")
        header = writer.finish()
    return {
        "num_documents": header.num_documents,
        "num_tokens": header.num_tokens,
        "num_text_bytes": header.num_text_bytes,
        **asdict(losses),
    }
