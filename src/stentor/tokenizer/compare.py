"""Tokenizers side by side on the same text: what each token carries, what it costs, and what is lost.

One pass over the text serves all of them, so that they are timed in turns on the same documents.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from stentor.errors import UserError
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.chunks import chunked

BANDS = (100, 1_000, 10_000)
"""Words by rank: the commonest hundred, the rest of the first thousand, of the first ten thousand, and all others."""
BAND_NAMES = ("1 to 100", "101 to 1,000", "1,001 to 10,000", "all rarer")
HIDDEN_SIZE, CONTEXT_TOKENS, PADDED_TO = 256, 1_024, 64
"""Sizes of the small model whose embedding and context are reckoned."""
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerReport:
    """One tokenizer on the text.

    Attributes:
        vocab_size: special tokens among them.
        num_bytes: UTF-8 bytes of the text.
        num_tokens: without EOS.
        encode_mb_per_second: on one thread, by processor time: what else the machine does hardly counts.
        num_exact_documents: that decode to the very same bytes.
        num_equal_documents: that decode to the same characters, if perhaps decomposed.
        num_lost_bytes: bytes of the (decomposed) text that no token covers.
        tokens_per_word: for each band of `BANDS` and for all rarer words, each word as it stands behind a space,
            weighted by how often it occurs; None for a band without words.
    """

    vocab_size: int
    num_documents: int
    num_bytes: int
    num_tokens: int
    encode_mb_per_second: float
    num_exact_documents: int
    num_equal_documents: int
    num_lost_bytes: int
    tokens_per_word: tuple[float | None, ...]

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token."""
        return self.num_bytes / self.num_tokens

    @property
    def context_bytes(self) -> int:
        """Bytes of text that a context of 1,024 tokens holds."""
        return round(CONTEXT_TOKENS * self.bytes_per_token)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of an embedding 256 wide, its rows padded to a multiple of 64."""
        return -(-self.vocab_size // PADDED_TO) * PADDED_TO * HIDDEN_SIZE

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, those that follow from others too."""
        derived = ("bytes_per_token", "context_bytes", "embedding_parameters")
        return asdict(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tokenizers by name, in the order they were given.

    Attributes:
        reports: what each does to the text.
        words_by_band: occurrences of words of each band in the text.
        shared: for each two, the share of the first one's tokens that the second has too, by the bytes that they
            decode to alone.
    """

    reports: Mapping[str, TokenizerReport]
    words_by_band: tuple[int, ...]
    shared: Mapping[tuple[str, str], float]


def compare(tokenizers: Mapping[str, Tokenizer], texts: Iterable[str]) -> Comparison:
    """Measure tokenizers on a stream of texts; the texts are read once and not kept.

    Raises:
        UserError: there is no text to measure on.
    """
    meters = {name: _Meter(tokenizer) for name, tokenizer in tokenizers.items()}
    words: Counter[str] = Counter()
    for chunk in chunked(texts):
        for text in chunk:
            words.update(_WORD.findall(text))
        data = [text.encode(errors="replace") for text in chunk]
        for meter in meters.values():
            meter.add(data)
    if not all(meter.num_tokens for meter in meters.values()):
        raise UserError("there is no text to compare the tokenizers on", fix="check the source that was given")
    bands = _bands(words)
    reports = {name: meter.report(bands) for name, meter in meters.items()}
    return Comparison(reports, tuple(band.total() for band in bands), shared_tokens(tokenizers))


def shared_tokens(tokenizers: Mapping[str, Tokenizer]) -> dict[tuple[str, str], float]:
    """Return, for each two tokenizers, the share of the first one's tokens that the second has too.

    Tokens are the same that decode to the same bytes when they stand alone; those that decode to none do not count.
    """
    found = {
        name: {tokenizer.decode_bytes([token_id]) for token_id in range(tokenizer.vocab_size)} - {b""}
        for name, tokenizer in tokenizers.items()
    }
    return {
        (one, other): len(found[one] & found[other]) / max(1, len(found[one]))
        for one in found
        for other in found
        if one != other
    }


class _Meter:
    """Adds up what one tokenizer does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._seconds = 0.0
        self._num_documents = self._num_bytes = self._num_exact = self._num_equal = self._num_lost = 0
        self.num_tokens = 0
        tokenizer.encode("loaded before it is timed")

    def add(self, texts: list[bytes]) -> None:
        started = time.process_time()
        ids = self._tokenizer.encode_batch(texts, num_threads=1)
        self._seconds += time.process_time() - started
        self._num_documents += len(texts)
        self._num_bytes += sum(map(len, texts))
        self.num_tokens += sum(map(len, ids))
        for text, text_ids in zip(texts, ids, strict=True):
            self._check(text, self._tokenizer.decode_bytes(text_ids))

    def _check(self, text: bytes, decoded: bytes) -> None:
        self._num_exact += decoded == text
        lost = 0 if decoded == text else len(_decomposed(text)) - len(_decomposed(decoded))
        self._num_equal += decoded == text or _decomposed(decoded) == _decomposed(text)
        self._num_lost += max(0, lost)

    def report(self, bands: list[Counter[str]]) -> TokenizerReport:
        return TokenizerReport(
            vocab_size=self._tokenizer.vocab_size,
            num_documents=self._num_documents,
            num_bytes=self._num_bytes,
            num_tokens=self.num_tokens,
            encode_mb_per_second=self._num_bytes / 1e6 / max(self._seconds, 1e-9),
            num_exact_documents=self._num_exact,
            num_equal_documents=self._num_equal,
            num_lost_bytes=self._num_lost,
            tokens_per_word=tuple(map(self._tokens_per_word, bands)),
        )

    def _tokens_per_word(self, band: Counter[str]) -> float | None:
        if not band:
            return None
        ids = self._tokenizer.encode_batch([f" {word}" for word in band])
        return sum(count * len(word_ids) for count, word_ids in zip(band.values(), ids, strict=True)) / band.total()


def _decomposed(text: bytes) -> bytes:
    return unicodedata.normalize("NFD", text.decode(errors="replace")).encode()


def _bands(words: Counter[str]) -> list[Counter[str]]:
    """Cut words into bands by rank; words that occur as often come in the order of their letters."""
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    edges = [0, *BANDS, len(ranked)]
    return [Counter(dict(ranked[start:end])) for start, end in pairwise(edges)]
