"""A little text and a little pool, and the compiled filters behind plain functions."""

import random

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.training.filters import decode, is_latin, passes
from stentor.tokenizer.tokenmonster.training.kinds import LETTER, NUMBER, kinds_of
from stentor.tokenizer.tokenmonster.training.text import PreparedText, prepare_texts
from stentor.tokenizer.tokenmonster.unicode13 import runes

WORDS = [
    *("the", "and", "of", "under", "stone", "river", "reading", "Constantinople", "don't", "USA", "iPhone", "1984"),
    *("(see)", "e.g.", "well-known", "caf\u00e9", "na\u00efve", "x_y"),
]


def few_texts(count: int = 60, seed: int = 1) -> list[str]:
    source = random.Random(seed)
    endings = (". ", ", ", "\n", "\n\n", " - ", '" ', "; ", "\t", "  ")
    texts = []
    for _ in range(count):
        words = source.choices(WORDS, k=source.randint(1, 40))
        texts.append("".join(word + source.choice((" ", " ", " ", source.choice(endings))) for word in words))
    return texts


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return few_texts()


@pytest.fixture(scope="session")
def prepared(texts) -> PreparedText:
    return prepare_texts(texts, capcode=2, num_workers=2)


class CompiledFilter:
    """The compiled rules, called like their slow twin."""

    def __init__(self, mode: int, capcode: int) -> None:
        self.mode, self.capcode, self.kinds = mode, capcode, kinds_of(capcode)

    def _decoded(self, candidate: bytes):
        codes, offsets = np.zeros(len(candidate) + 1, np.int64), np.zeros(len(candidate) + 2, np.int64)
        count, is_valid = decode(np.frombuffer(candidate, np.uint8), 0, len(candidate), codes, offsets)
        return codes, offsets, count, is_valid

    def accepts(self, candidate: bytes, follower: bytes) -> bool:
        codes, offsets, count, _ = self._decoded(candidate)
        kind = int(self.kinds[next(runes(follower))[0]]) if follower else 0
        kind = LETTER if kind & LETTER else NUMBER if kind & NUMBER else 0
        return bool(passes(codes, offsets, count, self.kinds, self.mode, self.capcode, kind))

    def is_valid(self, candidate: bytes) -> bool:
        return bool(self._decoded(candidate)[3])

    def is_latin(self, candidate: bytes) -> bool:
        codes, _, count, _ = self._decoded(candidate)
        return bool(is_latin(codes, count, self.kinds))


@pytest.fixture(scope="session")
def compiled_filter():
    return CompiledFilter
