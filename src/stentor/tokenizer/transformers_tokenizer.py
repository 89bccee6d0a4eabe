"""A fast tokenizer of transformers behind the interface of ours, whatever its family.

A byte-level BPE that keeps Stentor's rules becomes one of Stentor's own. Of others the bytes of each token are read
from its spelling, so that texts of two vocabularies can be compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.errors import CorruptArtifactError, UserError, missing_extra
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.bpe import BpeTokenizer
from stentor.tokenizer.bpe_file import byte_alphabet, parse_bpe_file
from stentor.tokenizer.library import TOKENIZER_FILE, SpecialTokens
from stentor.tokenizer.pieces import exact_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in the vocabularies of SentencePiece."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BEFORE = "\n"
"""Is put before a text and taken off again, for some vocabularies put a space before a text that has nothing there."""


def open_transformers_tokenizer(path_or_id: str | Path) -> Tokenizer:
    """Open the tokenizer of a folder or a Hub id.

    Raises:
        UserError: there is no fast tokenizer, it has no EOS, or its tokens do not stand for bytes.
    """
    if Path(path_or_id).is_dir() and Tokenizer.is_in(Path(path_or_id)):
        try:
            return Tokenizer.load(path_or_id)
        except CorruptArtifactError:
            raise
        except UserError:
            pass  # of a family that only transformers knows
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", "hf", needed_for="a tokenizer of transformers") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path_or_id), trust_remote_code=False)
    except Exception as error:  # of a damaged file it raises whatever its parts do
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"transformers opens no tokenizer at {path_or_id}: {reason:.300}",
            fix="check the name, or fetch the model again",
        ) from None
    return as_own(tokenizer, where=str(path_or_id))


def as_own(tokenizer: PreTrainedTokenizerFast, *, where: str) -> Tokenizer:
    """Return a tokenizer of transformers as one of ours; errors as in `open_transformers_tokenizer`."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {where} is no fast one", fix="use a model with a tokenizer.json")
    eos = tokenizer.eos_token
    if eos is None:
        raise UserError(f"the tokenizer of {where} does not say which token ends a text", fix="give it an eos_token")
    special = SpecialTokens(str(eos), str(tokenizer.bos_token or eos), str(tokenizer.pad_token or eos))
    try:
        return BpeTokenizer(parse_bpe_file(tokenizer.backend_tokenizer.to_str().encode(), where), special, where)
    except (UserError, KeyError):
        return TransformersTokenizer(tokenizer, where=where)


class TransformersTokenizer(Tokenizer):
    """A fast tokenizer that has the family of no tokenizer of ours.

    Text is encoded as it stands: without BOS, and without the space that some vocabularies put before a text.

    Args:
        tokenizer: with an EOS.
        where: it was read from, for messages.

    Raises:
        UserError: its tokens do not stand for bytes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, where: str) -> None:
        self._tokenizer = tokenizer
        self._json = tokenizer.backend_tokenizer.to_str()
        self._token_bytes = _bytes_of_tokens(tokenizer, json.loads(self._json), where)
        self._backend = type(tokenizer.backend_tokenizer).from_str(self._json)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # special tokens spelt out in a text are plain text
        self._id_of_byte = {data[0]: token_id for token_id, data in enumerate(self._token_bytes) if len(data) == 1}
        self._before_ids = self._ids_of(_BEFORE)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._token_bytes)

    @property
    def eos_token_id(self) -> int:
        """The token that ends a document."""
        return self._id_of("eos_token_id")

    @property
    def bos_token_id(self) -> int:
        """The token that begins a document, where one is wanted."""
        return self._id_of("bos_token_id")

    @property
    def pad_token_id(self) -> int:
        """The token that fills a batch."""
        return self._id_of("pad_token_id")

    @cached_property
    def sha256(self) -> str:  # type: ignore[override]
        """Fingerprint of the tokenizer.json."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for: none for a special token."""
        self.require_known(token_id)
        return self._token_bytes[token_id]

    def encode_batch(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[list[int]]:
        """Return the ids of each text; bytes that are not UTF-8 and have no token of their own vanish."""
        return [[token_id for part in exact_parts(text) for token_id in self._part_ids(part)] for text in texts]

    def files(self, model_max_length: int | None = None) -> dict[str, bytes]:
        """Return the tokenizer.json."""
        return {TOKENIZER_FILE: self._json.encode()}

    def _id_of(self, name: str) -> int:
        token_id = getattr(self._tokenizer, name)
        return self.eos_token_id if token_id is None else token_id

    def _part_ids(self, part: str | int) -> list[int]:
        if isinstance(part, int):
            return [self._id_of_byte[part]] if part in self._id_of_byte else []
        ids, num_before = self._ids_of(_BEFORE + part), len(self._before_ids)
        return ids[num_before:] if ids[:num_before] == self._before_ids else self._ids_of(part)

    def _ids_of(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids


def _bytes_of_tokens(tokenizer: PreTrainedTokenizerFast, raw: dict, where: str) -> list[bytes]:
    """Return what each id stands for, by the spelling of its family; nothing for an id that no token has."""
    spelling = json.dumps([raw.get("decoder"), raw.get("pre_tokenizer"), raw.get("normalizer")], ensure_ascii=False)
    alphabet = byte_alphabet() if '"ByteLevel"' in spelling else None
    if alphabet is None and SPACE not in spelling:
        raise UserError(
            f"the tokens of {where} do not stand for bytes",
            fix="use a model with a byte-level or a SentencePiece vocabulary",
        )
    vocabulary, table = tokenizer.get_vocab(), tokenizer.added_tokens_decoder
    special_ids = {*tokenizer.all_special_ids, *(token_id for token_id, token in table.items() if token.special)}
    added = {token.content for token in table.values()}
    token_bytes = [b""] * (max(vocabulary.values()) + 1)
    for token, token_id in vocabulary.items():
        if token_id in special_ids:
            continue
        if alphabet is not None and token not in added:
            token_bytes[token_id] = bytes(alphabet[character] for character in token)
        elif alphabet is None and (byte := _BYTE.fullmatch(token)):
            token_bytes[token_id] = bytes([int(byte[1], 16)])
        else:
            token_bytes[token_id] = (token if token in added else token.replace(SPACE, " ")).encode()
    return token_bytes
