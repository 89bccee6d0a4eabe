"""Fixtures every test may use."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from stentor.artifacts import write_file
from stentor.config import Recipe, TokenizerConfig, TrainConfig
from stentor.model.config import ModelConfig
from stentor.shards.build import Shards, build_shards
from stentor.text.document import Document
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import Settings

# Tests run side by side on tensors so small that threads would only wait for each other; subprocesses inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Kernels for GPUs run on the CPU. Triton reads this when it is first imported, whoever does that.
os.environ.setdefault("TRITON_INTERPRET", "1")

# A slow machine is no failed property; pytest-timeout stops what hangs.
settings.register_profile("stentor", deadline=None)
settings.load_profile("stentor")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of corpora and vectors beside the checkout; skip, with the reason, where there is none."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the folder {SHARED.name} beside the checkout")
        pytest.skip(f"needs the corpora in the folder {SHARED.name} beside the checkout")
    return SHARED


COMMON_WORDS = """
the a of and to in is that it was for on are as with his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over
"""
WORDS = COMMON_WORDS.split()


def prose(num_documents: int, seed: int = 0) -> list[str]:
    """Return documents of random common words: text that a tiny model learns something about in seconds."""
    generator = np.random.default_rng(seed)
    documents = []
    for _ in range(num_documents):
        sentences = [
            " ".join(generator.choice(WORDS, generator.integers(4, 12))).capitalize() + "."
            for _ in range(generator.integers(3, 9))
        ]
        documents.append(" ".join(sentences))
    return documents


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """Return a byte-level BPE of 320 tokens learned from a little prose."""
    return train_bpe(prose(120), vocab_size=320)


@pytest.fixture(scope="session")
def tiny_tokenmonster() -> TokenMonsterTokenizer:
    """Return a TokenMonster vocabulary of about as many tokens: bytes of ASCII and UTF-8, and common words."""
    ascii_bytes = [*b"\n\t", *(byte for byte in range(0x20, 0x7F) if not chr(byte).isupper() or chr(byte) in "CDW")]
    singles = [bytes([byte]) for byte in (*ascii_bytes, *range(0x80, 0xC0), *range(0xC2, 0xF5))]
    words = [f" {word}".encode() for word in WORDS]
    return TokenMonsterTokenizer(build_vocab(numbered(dict.fromkeys([*singles, *words], 0.0)), Settings()))


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Return the sizes of a model that runs in milliseconds."""
    return ModelConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32,
    )


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory, tiny_tokenizer) -> Shards:
    """Return packed shards of a little prose: some thousand tokens to train on, some hundred held out."""
    documents = {"train": prose(150, seed=1), "validation": prose(12, seed=2)}
    return build_shards(
        lambda split: [Document(text, str(index), split) for index, text in enumerate(documents[split])],
        tiny_tokenizer,
        tmp_path_factory.mktemp("world") / "shards",
    )


@pytest.fixture(scope="session")
def tiny_recipe(tiny_config) -> Recipe:
    """Return a recipe of 13 steps, the last one half as large as the others."""
    return Recipe(
        name="tiny-test",
        tokenizer=TokenizerConfig(vocab_size=320),
        model=tiny_config,
        train=TrainConfig(
            tokens=25 * 4 * 32,
            global_batch_tokens=8 * 32,
            micro_batch_size=3,
            lr=5e-3,
            warmup_steps=3,
            eval_every=4,
            save_every=3,
        ),
    )


@pytest.fixture(scope="session")
def prose_documents() -> Callable[[int], list[str]]:
    """Return a function that gives so many documents of random common words."""
    return prose


@pytest.fixture
def record_opened(request) -> Callable[..., None]:
    """Return a function that notes that a consumer opened a file of ours, for the table in docs/compatibility.md.

    It writes only where `make compatibility` runs the tests (benchmarks/compatibility.py says how to add a row).
    """

    def record(
        *,
        file: str,
        consumer: str,
        version: str,
        model: str,
        command: str,
        agrees: Sequence[str],
        difference: float | None,
        measure: str,
    ) -> None:
        """Note one opening.

        Args:
            file: its format and dtype, such as `gguf q8_0`; rows of one file, consumer and version become one.
            consumer: the program that opened it.
            version: of the program.
            model: that the file holds.
            command: that opened it, as a user types it in a checkout.
            agrees: what was found equal, such as `token ids`.
            difference: the largest one that was found; None where the consumer refuses the file, as it should.
            measure: what the difference is of, or what the consumer said.
        """
        if folder := os.environ.get("STENTOR_COMPATIBILITY"):
            row = {"file": file, "consumer": consumer, "version": version, "model": model, "command": command}
            row |= {"agrees": list(agrees), "difference": difference, "measure": measure, "test": request.node.nodeid}
            name = hashlib.sha256(json.dumps([row["test"], file, consumer]).encode()).hexdigest()[:16]
            write_file(Path(folder) / f"{name}.json", json.dumps(row))

    return record
