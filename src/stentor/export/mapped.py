"""What it costs to carry a tokenizer that a format does not have by the closest one that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

import numpy as np

from stentor.errors import UserError
from stentor.export.parity import MappedTokenizer, Segmentation
from stentor.export.source import Source, mixed_probes
from stentor.model.folder import build_model
from stentor.model.measure import measure
from stentor.model.scorer import TorchScorer
from stentor.text.sources import read_texts
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

DEFAULT_SAMPLE = "builtin:docs"
SAMPLE_BYTES, _PIECE_CHARACTERS = 50_000, 2_000


def measure_mapping(
    source: Source, encode: Callable[[bytes], list[int]], *, kind: str, sample: str = DEFAULT_SAMPLE
) -> MappedTokenizer:
    """Measure how far the mapping's ids are from the model's own, and what that costs the model.

    Args:
        source: the model and its TokenMonster tokenizer.
        encode: gives the mapping's ids of a text.
        kind: the mapping's name.
        sample: a source of text; the first 50 kB of it are measured.

    Raises:
        UserError: there is no such text.
    """
    tokenizer = source.tokenizer
    assert isinstance(tokenizer, TokenMonsterTokenizer)
    pieces, strings = sample_pieces(sample), mixed_probes()
    num_bytes = sum(len(piece.encode()) for piece in pieces)
    own, own_of_strings = tokenizer.encode_batch(pieces), tokenizer.encode_batch(strings)
    scorer = TorchScorer(build_model(source.config, source.tensors, origin="the model to export"))

    def bits(ids: Sequence[list[int]]) -> float:
        eos = tokenizer.eos_token_id
        stream = np.array([token_id for row in ids for token_id in (*row, eos)], dtype=np.int64)
        return round(measure(scorer, stream, num_bytes=num_bytes, eos_token_id=eos).bits_per_byte, 4)

    def compared(as_bytes: Callable[[str], bytes]) -> Segmentation:
        theirs = [encode(as_bytes(piece)) for piece in pieces]
        num_equal = sum(encode(as_bytes(text)) == ids for text, ids in zip(strings, own_of_strings, strict=True))
        return Segmentation(round(num_equal / len(strings), 4), similarity(own, theirs), bits(theirs))

    return MappedTokenizer(
        kind=kind,
        sample=sample,
        num_bytes=num_bytes,
        num_strings=len(strings),
        bits_per_byte=bits(own),
        raw=compared(str.encode),
        prepared=compared(lambda text: prepared(tokenizer, text)),
    )


def prepared(tokenizer: TokenMonsterTokenizer, text: str) -> bytes:
    """Return a text as the tokens spell it: decomposed and capcoded."""
    return tokenizer.encoder.prepare(text.encode())


def sample_pieces(sample: str) -> list[str]:
    """Return the first 50 kB of a source, in pieces short enough to be compared one by one."""
    pieces: list[str] = []
    num_bytes = 0
    for text in read_texts(sample):
        for start in range(0, len(text), _PIECE_CHARACTERS):
            if num_bytes >= SAMPLE_BYTES:
                return pieces
            piece = text[start : start + _PIECE_CHARACTERS].encode(errors="replace").decode()
            pieces.append(piece)
            num_bytes += len(piece.encode())
    if not num_bytes:
        raise UserError(f"there is no text in {sample} to measure on", fix="pass another --compare TEXT")
    return pieces


def similarity(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> float:
    """Return the share of ids that two ways to cut the same texts have in common and in order, from 0 to 1."""
    common = total = 0
    for a, b in zip(ours, theirs, strict=True):
        blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        common += 2 * sum(block.size for block in blocks)
        total += len(a) + len(b)
    return round(common / total, 4) if total else 1.0
