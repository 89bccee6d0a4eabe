"""Models on disk for tests that read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stentor.artifacts import staged_directory
from stentor.export.gguf_file import write_gguf
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import expected_shapes, to_hugging_face


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


@pytest.fixture(scope="session")
def strong_tensors() -> Callable[..., dict[str, np.ndarray]]:
    """Return a function that gives random weights, large enough that every mistake shows."""

    def make(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(seed)
        drawn = {name: generator.standard_normal(shape) for name, shape in expected_shapes(config).items()}
        return {name: (1 + 0.2 * x if x.ndim == 1 else 0.15 * x).astype(np.float32) for name, x in drawn.items()}

    return make


@pytest.fixture
def write_model_gguf(tmp_path, tiny_config, tiny_tokenizer, strong_tensors) -> Callable[..., Path]:
    """Return a function that writes a model as GGUF, by default the tiny one with grouped queries."""

    def write(*, name: str = "m.gguf", dtype: str = "q8_0", tokenizer=tiny_tokenizer, mapped=None, **sizes) -> Path:
        config = dataclasses.replace(tiny_config, **{"num_key_value_heads": 1, **sizes})
        path = tmp_path / "ggufs" / name
        path.parent.mkdir(exist_ok=True)
        write_gguf(path, config, strong_tensors(config), tokenizer, dtype=dtype, name="tiny", mapped=mapped)
        return path

    return write
