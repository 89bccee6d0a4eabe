"""A model with large random weights, whose every probability is its own, and files of tasks for it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from stentor.artifacts import staged_directory, write_file
from stentor.model.folder import write_model_folder
from stentor.model.names import expected_shapes
from stentor.runtime.engine import LanguageModel, load

CONTEXT_LENGTH = 48


@pytest.fixture(scope="session")
def model_path(tmp_path_factory, tiny_config, tiny_tokenizer) -> Path:
    """Return the folder of a random model of 48 positions."""
    config = dataclasses.replace(tiny_config, max_position_embeddings=CONTEXT_LENGTH)
    generator = torch.Generator().manual_seed(5)
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in expected_shapes(config).items()}
    path = tmp_path_factory.mktemp("tasks") / "model"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(staging, config, tensors, tiny_tokenizer)
    return path


@pytest.fixture(scope="session")
def model(model_path) -> LanguageModel:
    """Return it loaded, in float32."""
    return load(model_path, dtype="float32", num_threads=2)


def slow_log_probs(model: LanguageModel, context: list[int], option: list[int]) -> list[float]:
    """Return ln p of each token of an option, each after a pass of its own."""
    found, read = [], list(context)
    for token_id in option:
        logits_V = model.network.fresh().extend(read, 0)[0].astype("float64")
        logits_V -= logits_V.max()
        found.append(float(logits_V[token_id]) - float(torch.logsumexp(torch.from_numpy(logits_V), 0)))
        read.append(token_id)
    return found


@pytest.fixture(scope="session")
def log_probs_of():
    """Return the slow twin of scoring."""
    return slow_log_probs


@pytest.fixture
def write_lines(tmp_path):
    """Return a function that writes records, or lines as they are, into a file of JSON lines."""

    def write(name: str, *records: object) -> Path:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        write_file(tmp_path / name, "".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return write
