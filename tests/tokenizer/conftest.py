"""A vocabulary small enough to be learned in every test run."""

import json
import random

import pytest

from stentor.tokenizer.bpe import BpeTokenizer, train_bpe
from stentor.tokenizer.probes import mixed_strings


def generated_texts(count: int = 400, seed: int = 5) -> list[str]:
    """Return texts with a few thousand different words, always the same."""
    source = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "io", "u")]
    words = ["".join(source.choices(syllables, k=source.randint(1, 4))) for _ in range(800)]
    return [" ".join(source.choices(words, k=60)) + ".\n" for _ in range(count)] + mixed_strings(300, seed)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return generated_texts()


@pytest.fixture(scope="session")
def tokenizer(texts) -> BpeTokenizer:
    return train_bpe(texts, vocab_size=800)


@pytest.fixture
def raw(tokenizer) -> dict:
    """Return the parsed tokenizer.json, free to be damaged."""
    return json.loads(tokenizer.files()["tokenizer.json"])
