"""What every tokenizer that runs through the `tokenizers` library has in common; families say where text may be cut."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stentor.errors import UserError
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.bpe_file import TokenizerFile, byte_alphabet
from stentor.tokenizer.chunks import chunked
from stentor.tokenizer.pieces import exact_parts

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The spelling of the special tokens; a vocabulary without BOS or PAD uses EOS."""

    eos: str = "<|endoftext|>"
    bos: str = "<|beginoftext|>"
    pad: str = "<|padding|>"


class LibraryTokenizer(Tokenizer):
    """A byte-level vocabulary in a tokenizer.json."""

    def __init__(self, file: TokenizerFile, special: SpecialTokens, where: str = "the tokenizer") -> None:
        self._file = file
        self._special = special
        self._backend = _backend(file, where)
        self._id_of_byte = [file.token_bytes.index(bytes([byte])) for byte in range(256)]
        _refuse_reachable_specials(self._backend, file, where)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones among them."""
        return len(self._file.token_bytes)

    @property
    def eos_token_id(self) -> int:
        """The token that ends a document."""
        return self._file.special_ids[self._special.eos]

    @property
    def bos_token_id(self) -> int:
        """The token that begins a document, where one is wanted."""
        return self._file.special_ids[self._special.bos]

    @property
    def pad_token_id(self) -> int:
        """The token that fills a batch."""
        return self._file.special_ids[self._special.pad]

    @property
    def sha256(self) -> str:
        """Fingerprint of the canonical tokenizer.json."""
        return hashlib.sha256(self._file.json_bytes).hexdigest()

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for: none for a special token."""
        self.require_known(token_id)
        return self._file.token_bytes[token_id]

    def encode_batch(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[list[int]]:
        """Return the ids of each text; they do not depend on the number of threads or on the company."""
        parts = [self._parts(text) for text in texts]
        encoded = self._encode_pieces((part for text in parts for part in text if isinstance(part, str)), num_threads)
        return [self._joined(text, encoded) for text in parts]

    def files(self, model_max_length: int | None = None) -> dict[str, bytes]:
        """Return tokenizer.json and tokenizer_config.json."""
        config: dict[str, Any] = {
            "add_bos_token": False,
            "bos_token": self._special.bos,
            "clean_up_tokenization_spaces": False,
            "eos_token": self._special.eos,
            # Without it transformers 4 adds token_type_ids, which model.generate(**inputs) then refuses.
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": self._special.pad,
            # The one class that transformers 4.57 to 5.23 all load unchanged: others lose spaces or do not exist.
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        config_bytes = json.dumps(config, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
        return {TOKENIZER_FILE: self._file.json_bytes, CONFIG_FILE: config_bytes}

    def _parts(self, text: str | bytes) -> list[str | int]:
        """Return what to encode one by one: pieces of text, and bytes that are not UTF-8."""
        parts = exact_parts(text)
        return [piece for part in parts for piece in (self._cut(part) if isinstance(part, str) else (part,))]

    @abstractmethod
    def _cut(self, text: str) -> Iterable[str]:
        """Return pieces that may be encoded one by one without changing an id."""

    def _encode_pieces(self, pieces: Iterable[str], num_threads: int | None) -> Iterator[list[int]]:
        """Yield the ids of each piece, a bounded number of pieces at a time."""

        def encode_one(piece: str) -> list[int]:
            return self._backend.encode_batch_fast([piece], add_special_tokens=False)[0].ids

        if num_threads is None:
            for chunk in chunked(pieces):
                yield from (e.ids for e in self._backend.encode_batch_fast(chunk, add_special_tokens=False))
        elif num_threads == 1:
            yield from map(encode_one, pieces)
        else:
            # The library's own pool has one size for the process; here its callers are what is limited.
            with ThreadPoolExecutor(num_threads) as pool:
                for chunk in chunked(pieces):
                    yield from pool.map(encode_one, chunk)

    def _joined(self, parts: list[str | int], encoded: Iterator[list[int]]) -> list[int]:
        ids: list[int] = []
        for part in parts:
            ids += [self._id_of_byte[part]] if isinstance(part, int) else next(encoded)
        return ids


def _backend(file: TokenizerFile, where: str) -> Backend:
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_str(file.json_bytes.decode())
    except Exception as error:  # the library raises plain Exception for every refusal
        raise UserError(
            f"{where} is refused by the tokenizers library: {error}", fix="copy or make this tokenizer again"
        ) from None
    backend.encode_special_tokens = True  # special tokens spelt out in a text are plain text
    return backend


def _refuse_reachable_specials(backend: Backend, file: TokenizerFile, where: str) -> None:
    """Refuse a special token that is also a learned word: text could end a document."""
    alphabet = byte_alphabet()
    for content, token_id in file.special_ids.items():
        if not alphabet.keys() >= set(content):
            continue  # no bytes are spelt like this
        text = bytes(alphabet[character] for character in content).decode(errors="replace")
        if token_id in backend.encode(text, add_special_tokens=False).ids:
            raise UserError(
                f"{where} has a special token {content!r} that plain text can produce",
                fix="use a special token whose spelling is no word, such as <|endoftext|>",
            )
