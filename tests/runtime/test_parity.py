"""The engine in float32 beside transformers: the same logits on prefill and every step, the same greedy text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from networks import random_llama

from stentor.artifacts import staged_directory
from stentor.model.folder import write_model_folder
from stentor.model.names import to_hugging_face
from stentor.runtime.engine import LanguageModel, load

PROMPT = "The people who were there"
SHAPES = {
    "llama": {},
    "llama, grouped, untied": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "qwen3": {"carrier": "qwen3"},
    "qwen3, grouped, untied": {"carrier": "qwen3", "num_key_value_heads": 2, "tie_word_embeddings": False},
}


@pytest.fixture(scope="module", params=SHAPES.values(), ids=list(SHAPES))
def folder(request, tmp_path_factory, tiny_config, tiny_tokenizer) -> Path:
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 300, **request.param}
    llama = random_llama(dataclasses.replace(tiny_config, **sizes))
    path = tmp_path_factory.mktemp("parity") / "model"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(staging, llama.config, to_hugging_face(llama.config, llama.state_dict()), tiny_tokenizer)
    return path


@pytest.fixture(scope="module")
def theirs(folder) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def ours(folder) -> LanguageModel:
    return load(folder, dtype="float32")


def test_logits_of_the_prompt_and_of_every_step(ours, theirs):
    ids = np.random.default_rng(1).integers(0, 320, 200).tolist()
    network, num_prompt_tokens = ours.network.fresh(), 130
    with torch.no_grad():
        expected_TV = theirs(torch.tensor([ids])).logits[0].numpy()
    found = network.extend(ids[:num_prompt_tokens], 0, all_scored=True)
    assert np.abs(found - expected_TV[:num_prompt_tokens]).max() < 1e-4 * np.abs(expected_TV).max()
    past = None
    with torch.no_grad():
        past = theirs(torch.tensor([ids[:num_prompt_tokens]]), use_cache=True).past_key_values
    for position in range(num_prompt_tokens, len(ids)):
        (found_V,) = network.extend([ids[position]], position)
        with torch.no_grad():
            answer = theirs(torch.tensor([[ids[position]]]), past_key_values=past, use_cache=True)
        expected_V = answer.logits[0, -1].numpy()
        assert np.abs(found_V - expected_V).max() < 1e-4 * np.abs(expected_V).max(), position


def test_greedy_text_of_256_tokens(ours, theirs):
    ids = torch.tensor([ours.tokenizer.encode(PROMPT)])
    with torch.no_grad():
        expected = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=256,
            min_new_tokens=256,
            do_sample=False,
            temperature=None,
            top_p=None,
            repetition_penalty=1.0,
            suppress_tokens=list(range(ours.tokenizer.vocab_size, theirs.config.vocab_size)),
        )[0, ids.shape[1] :]
    (completion,) = ours.complete(
        PROMPT, max_new_tokens=256, ignore_eos=True, temperature=0, repetition_penalty=1, logprobs=1
    )
    assert completion.token_ids == expected.tolist()


def test_scores_of_a_long_text(ours, theirs):
    text = " ".join(["the people who were there when it was"] * 6)
    scores = ours.score(text)
    ids = [ours.tokenizer.eos_token_id, *scores.token_ids]
    assert len(ids) < 300
    with torch.no_grad():
        log_probs = theirs(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    expected = [float(log_probs[place, token_id]) for place, token_id in enumerate(scores.token_ids)]
    assert scores.log_probs == pytest.approx(expected, abs=2e-4)
