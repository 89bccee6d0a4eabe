"""What every tokenizer can do, whatever its family; the rest of Stentor knows only this.

Text (or any bytes) goes in and ids come out; ids come back as exactly the bytes that went in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.artifacts import staged_directory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tokenizer(ABC):
    """A fixed vocabulary: text to ids and back, losing nothing.

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
        from stentor.tokenizer.bpe_folder import load_bpe

        return load_bpe(Path(path_or_name))

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
        """Return the bytes that a token stands for: none for a special token.

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

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that the ids stand for; special tokens are skipped."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that the ids stand for; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def save(self, destination: Path, *, replace: bool = False) -> None:
        """Write a sealed folder of kind `tokenizer` that `load` and transformers open.

        Raises:
            UserError: the destination exists and `replace` was not asked for.
        """
        with staged_directory(destination, kind="tokenizer", replace=replace) as staging:
            staging.details.update(vocab_size=self.vocab_size, sha256=self.sha256)
            for name, data in self.files().items():
                staging.write(name, data)
