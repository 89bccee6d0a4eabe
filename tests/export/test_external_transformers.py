"""Our folders in stock transformers of two major versions, in environments that have no Stentor."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from stentor.export.huggingface import export_huggingface
from stentor.export.source import make_question, our_logits, read_source
from stentor.tokenizer.probes import mixed_strings

PROGRAM = Path(__file__).with_name("open_in_transformers.py")

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_stock_transformers_opens_the_export(models, tmp_path, consumer, name):
    version, python = consumer
    folder = tmp_path / "exported"
    export_huggingface(models[name], folder)
    source = read_source(models[name], dtype="float32")
    question = make_question(source, folder)
    strings = mixed_strings(2000, seed=5)
    expected = {
        "strings": strings,
        "ids": source.tokenizer.encode_batch(strings),
        "window": question.window,
        "positions": question.positions,
        "logits": our_logits(source.config, source.tensors, question).tolist(),
    }
    result = subprocess.run(
        [python, PROGRAM, folder],
        input=json.dumps(expected),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found.pop("max_logit_difference") <= 1e-5
    tokenizer = source.tokenizer
    assert found == {
        "transformers": version,
        "has_stentor": False,
        "loading": {},
        "different_ids": [],
        "different_texts": [],
        "num_generated": 6,
        "is_equal_again": True,
        "same_ids_again": True,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": source.config.max_position_embeddings,
        "rope_theta": source.config.rope_theta,
    }
