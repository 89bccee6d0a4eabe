"""A tokenizer and a corpus of a few hundred tokens."""

import random

import pytest

from stentor.shards.format import ShardWriter, open_shard
from stentor.text.document import Document
from stentor.tokenizer.bpe import train_bpe

WORDS = ("tide", "moon", "shore", "salt", "wind", "stone", "gull", "rope", "mast", "\u00e9toile", "\u6d77", "storm")


def story(seed: int, num_words: int = 30) -> str:
    source = random.Random(seed)
    return " ".join(source.choices(WORDS, k=num_words)) + ".\n"


@pytest.fixture(scope="session")
def tokenizer():
    return train_bpe([story(seed) for seed in range(20)], vocab_size=280)


@pytest.fixture(scope="session")
def corpus():
    """Return a function that gives the documents of a split."""
    seeds = {"train": range(40), "validation": range(100, 105)}
    return lambda split: [Document(story(seed, seed % 9 * 20), str(seed), "test") for seed in seeds[split]]


@pytest.fixture
def make_shard(tokenizer, tmp_path):
    """Return a function that writes documents' ids as a shard and opens it."""

    def make(documents_ids, name="train.bin"):
        path = tmp_path / name
        with path.open("wb") as file:
            writer = ShardWriter(file, tokenizer)
            writer.add(documents_ids, num_text_bytes=0)
            writer.finish()
        return open_shard(path)

    return make
