"""A tiny model of random weights, a text to learn, and a proof that takes no seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stentor.artifacts import staged_directory, write_file
from stentor.export import huggingface, source
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Return a function that writes a model whose predictions are nearly uniform, as a folder."""

    def write(path: Path, config: ModelConfig, tokenizer: Tokenizer) -> Path:
        model = Llama(config)
        initialize(model, seed=0)
        with staged_directory(path, kind="model") as staging:
            write_model_folder(staging, config, to_hugging_face(config, model.state_dict()), tokenizer)
        return path

    return write


@pytest.fixture(scope="session")
def write_text() -> Callable[[Path, list[str]], str]:
    """Return a function that writes documents as a source of text."""

    def write(path: Path, documents: list[str]) -> str:
        write_file(path, "".join(json.dumps({"text": text}) + "\n" for text in documents))
        return str(path)

    return write


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory, write_model, tiny_config, tiny_tokenizer) -> Path:
    return write_model(tmp_path_factory.mktemp("finetune") / "model", tiny_config, tiny_tokenizer)


@pytest.fixture(scope="session")
def text(tmp_path_factory, write_text, prose_documents) -> str:
    return write_text(tmp_path_factory.mktemp("finetune") / "text.jsonl", prose_documents(40))


@pytest.fixture(autouse=True, scope="module")
def quick_proof():
    """Prove with few strings, in this process."""

    def ask(program, question, **_):
        from stentor.export import in_transformers

        assert program == in_transformers.__name__
        return in_transformers.answer(question)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "NUM_STRINGS", 100)
        patch.setattr(huggingface, "ask", ask)
        yield
