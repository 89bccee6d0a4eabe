"""A tiny world: a trained tokenizer and models whose weights are strong enough that every mistake shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from stentor.artifacts import staged_directory
from stentor.export import huggingface, source
from stentor.model.config import ModelConfig, padded_vocab_size
from stentor.model.folder import write_model_folder
from stentor.model.names import expected_shapes
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings

CONFIGS = {
    "llama": {"carrier": "llama", "hidden_size": 64, "head_dim": 16},
    "qwen3": {"carrier": "qwen3", "hidden_size": 64, "head_dim": 32},
    "untied": {"carrier": "llama", "hidden_size": 48, "head_dim": 16, "tie_word_embeddings": False},
}
TEXT = (
    "The quick brown fox jumps over the lazy dog; 1234567890 times, they're told.\n\n"
    "def area(radius):\n    return 3.14159 * radius ** 2\r\n\t# \u65e5\u672c\u8a9e \U0001f389\U0001f389\n"
    "Rivers carry rain from the mountains to the sea, and the sea gives it back to the clouds.   \n"
)


@pytest.fixture(scope="session")
def tokenizer():
    return train_bpe([TEXT * 20, *mixed_strings(300, seed=1)], vocab_size=500)


def make_config(name, tokenizer):
    return ModelConfig(
        vocab_size=padded_vocab_size(tokenizer.vocab_size),
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_theta=5000.0,
        **CONFIGS[name],
    )


def make_tensors(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 1 + 0.2 * noise if len(shape) == 1 else 0.15 * noise
    return tensors


@pytest.fixture(scope="session")
def models(tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders of one small random model for each way a model can differ."""
    root = tmp_path_factory.mktemp("models")
    for name in CONFIGS:
        config = make_config(name, tokenizer)
        with staged_directory(root / name, kind="model") as staging:
            write_model_folder(staging, config, make_tensors(config), tokenizer)
    return {name: root / name for name in CONFIGS}


@pytest.fixture(scope="session")
def monster_models(tiny_tokenmonster, tmp_path_factory) -> dict[str, Path]:
    """Folders of the same models with a TokenMonster vocabulary."""
    root = tmp_path_factory.mktemp("monsters")
    for name in ("llama", "qwen3"):
        config = make_config(name, tiny_tokenmonster)
        with staged_directory(root / name, kind="model") as staging:
            write_model_folder(staging, config, make_tensors(config), tiny_tokenmonster)
    return {name: root / name for name in ("llama", "qwen3")}


@pytest.fixture(params=["4.57.6", "5.23.0"])
def consumer(request) -> tuple[str, Path]:
    """Return the version and the Python of an environment with that transformers."""
    root = Path(__file__).resolve().parents[2]
    assert (root / "tests" / "consumers" / f"transformers-{request.param}.txt").is_file()
    python = root / f".venv-transformers-{request.param}" / "bin" / "python"
    if not python.exists():
        message = f"no environment with transformers {request.param}: make it with `make consumers`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return request.param, python


@pytest.fixture(autouse=True)
def few_strings(monkeypatch):
    """Prove with 300 strings: the full 10,000 are for real exports and one slow test."""
    monkeypatch.setattr(source, "NUM_STRINGS", 300)


@pytest.fixture
def in_process(monkeypatch):
    """Ask transformers in this process: the same code as the child's, without its seconds of imports."""

    def ask(program, question, **_):
        from stentor.export import in_transformers

        assert program == in_transformers.__name__
        return in_transformers.answer(question)

    monkeypatch.setattr(huggingface, "ask", ask)
