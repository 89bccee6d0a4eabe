"""A model folder for tests that read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stentor.artifacts import staged_directory
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face


@pytest.fixture(scope="session")
def tensors_of() -> Callable[..., dict[str, torch.Tensor]]:
    """Return a function that gives the initial weights of a model of some sizes."""

    def make(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
        model = Llama(config)
        initialize(model, seed=seed)
        return to_hugging_face(config, model.state_dict())

    return make


@pytest.fixture
def model_dir(tmp_path, tiny_config, tiny_tokenizer, tensors_of) -> Path:
    """Return a model folder that a test may damage."""
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors_of(tiny_config), tiny_tokenizer)
    return tmp_path / "model"
