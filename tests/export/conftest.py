"""A tiny world: a trained tokenizer and models whose weights are strong enough that every mistake shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import stentor
from stentor.artifacts import staged_directory
from stentor.export import huggingface, source
from stentor.model.config import ModelConfig, padded_vocab_size
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.model.names import expected_shapes
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
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
def shipped(tmp_path_factory) -> Path:
    """Return a folder of the 12.3M model that ships with Stentor, in float32."""
    folder = tmp_path_factory.mktemp("shipped") / "stentor-12m"
    source = read_model_folder("stentor-12m")
    with staged_directory(folder, kind="model") as staging:
        write_model_folder(staging, source.config, source.tensors, source.tokenizer)
    return folder


@pytest.fixture(scope="session")
def monster_models(tiny_tokenmonster, tmp_path_factory) -> dict[str, Path]:
    """Folders of the same models with a TokenMonster vocabulary."""
    root = tmp_path_factory.mktemp("monsters")
    for name in ("llama", "qwen3"):
        config = make_config(name, tiny_tokenmonster)
        with staged_directory(root / name, kind="model") as staging:
            write_model_folder(staging, config, make_tensors(config), tiny_tokenmonster)
    return {name: root / name for name in ("llama", "qwen3")}


@dataclass(frozen=True, slots=True)
class Consumer:
    """An environment with a package that opens our files, and without Stentor.

    Attributes:
        package: that opens them.
        version: of the package.
        python: runs it.
    """

    package: str
    version: str
    python: Path

    def run(self, program: str, folder: Path, *options: str, question: Any = None, with_stentor: bool = False) -> Any:
        """Run a program that lies beside the tests, from the folder above the one it opens, and return its answer.

        Args:
            program: the name of its file.
            folder: what it opens.
            options: of its command line.
            question: goes to its standard input as JSON.
            with_stentor: it can import our sources; otherwise it has nothing of ours.
        """
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "HF_HUB_OFFLINE": "1"}
        if with_stentor:
            environment["PYTHONPATH"] = str(ROOT / "src")
        result = subprocess.run(
            [self.python, HERE / program, folder, *options],
            input=json.dumps(question),
            cwd=folder.parent,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert (answer.pop(self.package), answer.pop("has_stentor")) == (self.version, with_stentor)
        return answer

    def command(self, program: str, *arguments: str) -> str:
        """Return the command as a user types it in a checkout."""
        return f".venv-{self.package}-{self.version}/bin/python tests/export/{' '.join([program, *arguments])}"


def made_consumer(package: str, version: str) -> Consumer:
    """Return the environment of a package; skip, with the reason, where it was not made."""
    assert (ROOT / "tests" / "consumers" / f"{package}-{version}.txt").is_file()
    python = ROOT / f".venv-{package}-{version}" / "bin" / "python"
    if not python.exists():
        message = f"no environment with {package} {version}: make it with `make consumers`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return Consumer(package, version, python)


@pytest.fixture(params=["4.57.6", "5.23.0"])
def consumer(request) -> Consumer:
    """Return an environment with that transformers and no Stentor."""
    return made_consumer("transformers", request.param)


@pytest.fixture
def onnxruntime_alone() -> Consumer:
    """Return an environment with onnxruntime and no Stentor."""
    return made_consumer("onnxruntime", "1.32.0")


PROMPT, NUM_GENERATED = "Rivers carry rain", 24


@pytest.fixture(scope="session")
def greedy_text() -> Callable[[Path], str]:
    """Return a function that gives the text that our engine writes after `PROMPT`, in float32 without penalties."""

    def run(model: Path) -> str:
        opened = stentor.load(model, dtype="float32", num_threads=1)
        return opened.generate(PROMPT, max_new_tokens=NUM_GENERATED, temperature=0, repetition_penalty=1)

    return run


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
