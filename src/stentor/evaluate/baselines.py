"""What bits per byte mean to a newcomer: the same text, measured by gzip, xz and the frequencies of its tokens.

All three see nothing but the text itself, while a model has been trained on other text: a model that does not beat
them has learned little, and one that does predicts text it never saw better than programs that may look at it.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from stentor.errors import UserError

_GZIP = 31
"""zlib's code for the largest window (32 KiB) inside a gzip wrapper, header and checksum counted."""


class Encoder(Protocol):
    """Anything that turns a text into token ids."""

    def encode(self, text: str | bytes) -> list[int]:
        """Return the ids of a text, special tokens left out."""
        ...


@dataclass(frozen=True, slots=True)
class Baselines:
    """Bits per UTF-8 byte of one text, comparable with `Evaluation.bits_per_byte` on that text.

    Attributes:
        gzip_bits_per_byte: size after `gzip -9`: repetitions within 32 KiB and a Huffman code.
        xz_bits_per_byte: size after `xz -9e`: repetitions within 64 MiB and an adaptive arithmetic code. What
            both learn they learn on the way, so on a short text they do worse than on a long one.
        unigram_bits_per_byte: entropy of the frequencies of its tokens, an EOS after each document counted as
            the evaluation counts it. The frequencies are those of the very text that is measured and cost
            nothing, so no model that ignores context, with this tokenizer, can do better: it is the lower bound
            of its kind. What a model gains below it, it gains from context.
        num_bytes: UTF-8 bytes of the text.
    """

    gzip_bits_per_byte: float
    xz_bits_per_byte: float
    unigram_bits_per_byte: float
    num_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


def baselines(texts: Iterable[str | bytes], tokenizer: Encoder) -> Baselines:
    """Measure a text with gzip, xz and its token frequencies, in one pass and bounded memory.

    The compressors read the documents in order, one directly after the other: a separator has no bytes here, as
    it has none in the evaluation. xz reserves 0.7 GB, of which a text of n bytes touches about 10 n.

    Args:
        texts: documents, raw as the evaluation takes them; a lone surrogate is read as `?`.
        tokenizer: the tokenizer of the model to compare with.

    Raises:
        UserError: there is no text.
    """
    gzip_size = _CompressedSize(zlib.compressobj(9, zlib.DEFLATED, _GZIP))
    xz_size = _CompressedSize(lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME))
    frequencies: Counter[int] = Counter()
    num_documents = num_bytes = 0
    for text in texts:
        data = text if isinstance(text, bytes) else text.encode(errors="replace")
        num_documents += 1
        num_bytes += len(data)
        gzip_size.add(data)
        xz_size.add(data)
        frequencies.update(tokenizer.encode(data))
    if not num_bytes:
        raise UserError("there is no text to measure", fix="pass a source with at least one document that is not empty")
    return Baselines(
        gzip_bits_per_byte=8 * gzip_size.finish() / num_bytes,
        xz_bits_per_byte=8 * xz_size.finish() / num_bytes,
        unigram_bits_per_byte=_entropy_bits([*frequencies.values(), num_documents]) / num_bytes,
        num_bytes=num_bytes,
    )


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _CompressedSize:
    """Counts what a compressor puts out and forgets it."""

    def __init__(self, compressor: _Compressor) -> None:
        self._compressor = compressor
        self._num_bytes = 0

    def add(self, data: bytes) -> None:
        self._num_bytes += len(self._compressor.compress(data))

    def finish(self) -> int:
        return self._num_bytes + len(self._compressor.flush())


def _entropy_bits(counts: list[int]) -> float:
    """Return the bits of a whole text whose symbols occur `counts` times, each coded by its frequency."""
    total = sum(counts)
    return math.fsum(count * math.log2(total / count) for count in counts)
