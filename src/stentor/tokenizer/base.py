"""What every tokenizer can do, whatever its family; the rest of Stentor knows only this.

Text (or any bytes) goes in and ids come out. A byte-level BPE gives exactly those bytes back; a TokenMonster
vocabulary gives them back decomposed, without the bytes that it has no token for, and counts what that changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stentor.artifacts import staged_directory
from stentor.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Losses:
    """What decoding does not give back of texts that were encoded.

    Attributes:
        num_lossy_documents: documents that come back as other bytes, if only as another form of the same characters.
        num_lost_bytes: bytes that no token covers and that vanish.
    """

    num_lossy_documents: int = 0
    num_lost_bytes: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.num_lossy_documents + other.num_lossy_documents, self.num_lost_bytes + other.num_lost_bytes)


class ByteDecoder(Protocol):
    """Turns ids into bytes as they come; all that it returns, joined, is `decode_bytes` of all the ids."""

    def push(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that these ids complete."""
        ...

    def finish(self) -> bytes:
        """Return what is left at the end."""
        ...


class Tokenizer(ABC):
    """A fixed vocabulary: text to ids and back.

    Special tokens are only ever placed by code. Where they are spelt out in a text they are plain text.
    """

    @classmethod
    def load(cls, path_or_name: str | Path) -> Tokenizer:
        """Open a tokenizer: a folder that holds one (a model folder does), its file, or a published vocabulary.

        Args:
            path_or_name: a tokenizer.json, a TokenMonster .vocab, the folder of either, or a name such as
                `tokenmonster:english-8000-balanced-v1`.

        Raises:
            UserError: nothing is there, or the file breaks a rule that ids depend on; the rule is named.
        """
        # The one place that chooses a family; each is imported only when it is wanted.
        from stentor.tokenizer.tokenmonster.load import is_tokenmonster, load_tokenmonster

        if is_tokenmonster(path_or_name):
            return load_tokenmonster(path_or_name)
        from stentor.tokenizer.json_folder import load_tokenizer_json

        return load_tokenizer_json(Path(path_or_name))

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether a folder holds a tokenizer of any family."""
        return (folder / "tokenizer.json").is_file() or any(folder.glob("*.vocab"))

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of tokens, special ones among them; ids are 0 .. vocab_size - 1."""

    @property
    @abstractmethod
    def eos_token_id(self) -> int:
        """The token that ends a document."""

    @property
    @abstractmethod
    def bos_token_id(self) -> int:
        """The token that begins a document, where one is wanted; EOS in a vocabulary without one."""

    @property
    @abstractmethod
    def pad_token_id(self) -> int:
        """The token that fills a batch; EOS in a vocabulary without one."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Fingerprint of the canonical file: equal fingerprints mean equal ids."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token is spelt with: none for a special token.

        A family whose tokens change each other, as capitals do in TokenMonster, makes text of them only together.

        Raises:
            UserError: the vocabulary has no such id.
        """

    @abstractmethod
    def encode_batch(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[list[int]]:
        """Return the ids of each text; they do not depend on the number of threads or on the company.

        Args:
            texts: as for `encode`.
            num_threads: at most this many threads; None uses every core.
        """

    def encode_arrays(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[NDArray[np.uint32]]:
        """Return the same ids as `encode_batch` in arrays: a family that has them so need not make lists of them."""
        import numpy as np

        return [np.array(ids, np.uint32) for ids in self.encode_batch(texts, num_threads)]

    @abstractmethod
    def files(self, model_max_length: int | None = None) -> dict[str, bytes]:
        """Return the tokenizer's files in Hugging Face layout, by name, to be written into any folder.

        Args:
            model_max_length: context length in tokens of the model that will stand beside them.
        """

    def encode(self, text: str | bytes) -> list[int]:
        """Return the ids of a text, without BOS or EOS.

        Args:
            text: a string, whose lone surrogates become `?` as with `errors="replace"`; or any bytes, kept
                exactly: what is not UTF-8 becomes single-byte tokens.
        """
        return self.encode_batch([text], num_threads=1)[0]

    def streaming_decoder(self) -> ByteDecoder:
        """Return a new decoder that takes ids as they come; for characters instead of bytes see `StreamDecoder`."""
        return _JoinedBytes(self)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that the ids stand for; special tokens are skipped.

        Raises:
            UserError: the vocabulary has no such id.
        """
        decoder = self.streaming_decoder()
        return decoder.push(ids) + decoder.finish()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that the ids stand for; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def losses(self, texts: Sequence[bytes], ids: Sequence[Sequence[int]]) -> Losses:
        """Count what decoding does not give back; nothing for a family that keeps every byte.

        Args:
            texts: documents as bytes.
            ids: what `encode_batch` made of each.
        """
        return Losses()

    def require_known(self, token_id: int) -> None:
        """Refuse an id that the vocabulary does not have.

        Raises:
            UserError: it is negative, or not below `vocab_size`.
        """
        if not 0 <= token_id < self.vocab_size:
            raise UserError(
                f"the token id {token_id} is outside the vocabulary of {self.vocab_size} tokens",
                fix=f"use ids from 0 to {self.vocab_size - 1}",
            )

    def save(self, destination: Path, *, replace: bool = False) -> None:
        """Write a sealed folder of kind `tokenizer` that `load` and transformers open.

        Raises:
            UserError: the destination exists and `replace` was not asked for.
        """
        with staged_directory(destination, kind="tokenizer", replace=replace) as staging:
            staging.details.update(vocab_size=self.vocab_size, sha256=self.sha256)
            for name, data in self.files().items():
                staging.write(name, data)


class _JoinedBytes:
    """Decodes tokens that stand for their bytes whatever is around them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes

    def push(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._token_bytes, ids))

    def finish(self) -> bytes:
        return b""
