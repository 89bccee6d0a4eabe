"""How well a vocabulary fits a text: the more bytes a token carries, the further a context reaches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stentor.errors import UserError
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.chunks import chunked


@dataclass(frozen=True, slots=True)
class TokenizerMeasurement:
    """Counts over a text; EOS tokens are not counted."""

    num_documents: int
    num_bytes: int
    num_tokens: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token."""
        return self.num_bytes / self.num_tokens


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> TokenizerMeasurement:
    """Count documents, UTF-8 bytes and tokens of a stream of texts, in bounded memory.

    Raises:
        UserError: there is no text to measure on.
    """
    num_documents = num_bytes = num_tokens = 0
    for chunk in chunked(texts):
        num_documents += len(chunk)
        num_bytes += sum(len(text.encode(errors="replace")) for text in chunk)
        num_tokens += sum(map(len, tokenizer.encode_batch(chunk)))
    if not num_tokens:
        raise UserError("there is no text to measure the tokenizer on", fix="check the source that was given")
    return TokenizerMeasurement(num_documents, num_bytes, num_tokens)
