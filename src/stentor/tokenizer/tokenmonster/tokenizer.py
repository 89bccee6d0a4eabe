"""A TokenMonster vocabulary as the rest of Stentor sees it: one more tokenizer, with EOS, BOS and PAD of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stentor.tokenizer.base import Losses, Tokenizer
from stentor.tokenizer.tokenmonster.vocab_file import VocabFile, pack_vocab

if TYPE_CHECKING:
    from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder
    from stentor.tokenizer.tokenmonster.encoder import Encoder

VOCAB_FILE, CONFIG_FILE = "tokenmonster.vocab", "tokenizer_config.json"
SPECIAL_TOKENS = {"eos": "<|endoftext|>", "bos": "<|beginoftext|>", "pad": "<|padding|>"}
"""In the order of their ids, which come right above the last of the vocabulary."""
HOW_TO_OPEN = "this TokenMonster vocabulary opens with the package stentor: pip install stentor, then import stentor.hf"
"""Stands in tokenizer_config.json where a token id belongs, so that every other class of transformers fails with it.

transformers 4 says that the class `StentorTokenMonsterTokenizer` does not exist; 5 takes another class for one that it
does not know, and a user may name one: none of them may come up with ids of its own.
"""


class TokenMonsterTokenizer(Tokenizer):
    """A TokenMonster vocabulary and, above its last id, the special tokens of a model.

    Unlike other tokenizers it keeps a text only up to its canonical decomposition (NFD), and bytes that no token
    covers, such as control characters in the published vocabularies, vanish: `keeps` tells.
    """

    def __init__(self, vocab: VocabFile) -> None:
        self.vocab = vocab

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones among them."""
        return self.vocab.end_id + len(SPECIAL_TOKENS)

    @property
    def eos_token_id(self) -> int:
        """The token that ends a document: the first id above the vocabulary."""
        return self.vocab.end_id

    @property
    def bos_token_id(self) -> int:
        """The token that begins a document, where one is wanted."""
        return self.vocab.end_id + 1

    @property
    def pad_token_id(self) -> int:
        """The token that fills a batch."""
        return self.vocab.end_id + 2

    @cached_property
    def sha256(self) -> str:  # type: ignore[override]
        """Fingerprint of the .vocab file."""
        return hashlib.sha256(pack_vocab(self.vocab)).hexdigest()

    def token_bytes(self, token_id: int) -> bytes:
        """Return the capcoded bytes of a token: none for a special one. Only `decode_bytes` makes text of them."""
        self.require_known(token_id)
        return self._pieces[token_id] if token_id < self.vocab.end_id else b""

    def encode_batch(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[list[int]]:
        """Return the ids of each text; they do not depend on the number of threads or on the company."""
        return [ids.tolist() for ids in self.encode_arrays(texts, num_threads)]

    def encode_arrays(self, texts: Sequence[str | bytes], num_threads: int | None = None) -> list[NDArray[np.uint32]]:
        """Return the ids of each text as they leave the kernels; making lists of them takes a quarter of the time."""
        return self.encoder.encode([_as_bytes(text) for text in texts], num_threads)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the text that the ids stand for; special tokens are skipped, and each ends a text."""
        chosen = np.asarray(ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64))
        for extreme in (chosen.min(initial=0), chosen.max(initial=0)):
            self.require_known(int(extreme))
        return super().decode_bytes(chosen)

    def streaming_decoder(self) -> StreamingDecoder:
        """Return a decoder that takes ids as they come."""
        from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder

        return StreamingDecoder(self.encoder.arrays, self.vocab.settings.capcode)

    def keeps(self, text: str | bytes) -> bool:
        """Whether decoding the ids of this text gives the text itself."""
        return self.decode_bytes(self.encode(text)) == _as_bytes(text)

    def losses(self, texts: Sequence[bytes], ids: Sequence[Sequence[int]]) -> Losses:
        """Count the texts that come back as other bytes, and the bytes that no token covers."""
        pairs = ((text, self.decode_bytes(text_ids)) for text, text_ids in zip(texts, ids, strict=True))
        changed = [(text, decoded) for text, decoded in pairs if text != decoded]
        lost = (len(self._with_every_byte(text)) - len(decoded) for text, decoded in changed)
        return Losses(len(changed), sum(max(0, num_bytes) for num_bytes in lost))

    def _with_every_byte(self, text: bytes) -> bytes:
        """Return what would come back if there were a token for each byte."""
        decoder = self.streaming_decoder()
        return decoder.push_prepared(self.encoder.prepare(text)) + decoder.finish()

    def files(self, model_max_length: int | None = None) -> dict[str, bytes]:
        """Return the vocabulary, and tokenizer_config.json with the special tokens."""
        config: dict[str, object] = {f"{role}_token": content for role, content in SPECIAL_TOKENS.items()}
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        config["tokenizer_class"] = "StentorTokenMonsterTokenizer"
        config["added_tokens_decoder"] = {HOW_TO_OPEN: {"content": ""}}
        return {VOCAB_FILE: pack_vocab(self.vocab), CONFIG_FILE: (json.dumps(config, indent=1) + "\n").encode()}

    @cached_property
    def _pieces(self) -> list[bytes]:
        return self.vocab.pieces()

    @cached_property
    def encoder(self) -> Encoder:
        """The compiled tables, made when first wanted."""
        from stentor.tokenizer.tokenmonster.encoder import Encoder

        return Encoder(self.vocab)

    def __getstate__(self) -> VocabFile:
        return self.vocab

    def __setstate__(self, vocab: VocabFile) -> None:
        self.__init__(vocab)


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode(errors="replace") if isinstance(text, str) else text
