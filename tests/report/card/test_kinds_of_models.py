"""Cards of every kind of model: both carriers, tied or not, each family of tokenizers, a folder or a .gguf alone."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from stentor.artifacts import staged_directory, write_file
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.report.card.about import Power
from stentor.report.card.energy import energy_of
from stentor.report.card.results import read_results
from stentor.report.card.write import write_card
from stentor.tokenizer import Tokenizer


def make_model(folder: Path, config: ModelConfig, tokenizer: Tokenizer) -> Path:
    """Write a model of random weights."""
    with staged_directory(folder, kind="model") as staging:
        tensors = to_hugging_face(config, Llama(config).state_dict())
        write_model_folder(staging, config, tensors, tokenizer, dtype=torch.float16)
    return folder


def card_of(folder: Path) -> tuple[str, Any]:
    """Write a card; return its text and its metadata."""
    card = ModelCard.load(write_card(folder).path)
    return card.text, card.data


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_both_carriers(tmp_path, tiny_config, tiny_tokenizer, carrier, is_tied):
    config = dataclasses.replace(tiny_config, carrier=carrier, tie_word_embeddings=is_tied)
    text, data = card_of(make_model(tmp_path / "m", config, tiny_tokenizer))
    assert carrier in data.tags
    assert f"| Parameters | **{config.num_parameters:,}** |" in text
    assert {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[carrier] in text
    assert ("embedding and head are two tables" in text) is not is_tied


def test_a_tokenmonster_model(tmp_path, tiny_config, tiny_tokenmonster):
    text, _ = card_of(make_model(tmp_path / "m", tiny_config, tiny_tokenmonster))
    assert "| Algorithm | TokenMonster |" in text
    assert "import stentor.hf" in text
    assert "tokenmonster.vocab" in text.partition("## Checksums")[2]


def test_a_gguf_file_alone(tmp_path):
    folder = tmp_path / "shipped"
    for file in (resources.files("stentor") / "models" / "stentor-12m").iterdir():
        if file.is_file() and file.name != "README.md":
            write_file(folder / file.name, file.read_bytes())
    text, data = card_of(folder)
    assert "gguf" in data.tags
    assert "llama-cli -m model.gguf" in text
    assert "### transformers" not in text
    assert "  model.gguf\n" in text.partition("## Checksums")[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="needs the package codecarbon")
def test_what_codecarbon_writes_is_read(tmp_path):
    """The real program, offline, around a second of work."""
    program = "import time; end = time.time() + 1\nwhile time.time() < end: pass"
    command = "from codecarbon.cli.main import main; main()"
    options = ["monitor", "--offline", "--country-iso-code", "USA", "--no-api", "--", sys.executable, "-c", program]
    subprocess.run([sys.executable, "-c", command, *options], cwd=tmp_path, check=True, capture_output=True)
    energy = energy_of(None, read_results(tmp_path), Power())
    assert energy is not None
    assert energy.is_measured
    assert energy.kwh > 0
    assert energy.kg_co2e is not None
    assert 1 <= energy.hours * 3600 < 120
    assert "United States" in energy.how
