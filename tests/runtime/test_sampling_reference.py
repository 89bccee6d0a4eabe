"""The definition of the distribution against the classes and the order of transformers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import EOS, assert_equal_but_for_ties, assume_no_border_is_touched, cases, state_of
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from stentor.runtime.sampling import Sampling, distribution
from stentor.runtime.sampling_reference import keep_min_p, keep_top_k, keep_top_p, keep_typical, reference_distribution


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Return a model that puts its processors into transformers' own order; its weights do not matter."""
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )


def transformers_probs(
    model: Any, logits_V: np.ndarray, sampling: Sampling, prompt_ids: list[int], output_ids: list[int]
) -> np.ndarray:
    config = GenerationConfig(
        do_sample=True,
        temperature=float(sampling.temperature),
        top_k=sampling.top_k,
        top_p=float(sampling.top_p),
        min_p=float(sampling.min_p),
        typical_p=float(sampling.typical_p),
        repetition_penalty=float(sampling.repetition_penalty),
        sequence_bias={(token_id,): float(bias) for token_id, bias in sampling.logit_bias.items()} or None,
        min_new_tokens=sampling.min_new_tokens,
        suppress_tokens=[EOS] if sampling.ignore_eos else None,
        eos_token_id=EOS,
    )
    config._eos_token_tensor = torch.tensor([EOS])
    processors = model._get_logits_processor(config, len(prompt_ids), device="cpu")
    scores = processors(torch.tensor([prompt_ids + output_ids]), torch.tensor(logits_V[None], dtype=torch.float64))
    return scores.softmax(-1)[0].numpy()


@given(case=cases())
def test_both_distributions_equal_transformers(theirs, case):
    logits_V, sampling, prompt_ids, output_ids = case
    compare_with_transformers(theirs, logits_V, without_output_penalties(sampling), prompt_ids, output_ids)


@given(seed=st.integers(0, 2**32))
def test_every_setting_at_once_equals_transformers(theirs, seed):
    """None is neutral, so that a change of their order shows."""
    generator = np.random.default_rng(seed)
    sampling = Sampling(
        temperature=generator.uniform(0.7, 2),
        top_k=int(generator.integers(10, 50)),
        top_p=generator.uniform(0.6, 0.99),
        min_p=generator.uniform(0.01, 0.3),
        typical_p=generator.uniform(0.3, 0.95),
        repetition_penalty=generator.uniform(1.1, 2),
        logit_bias={int(token_id): 1.5 for token_id in generator.integers(0, 60, 9)},
        min_new_tokens=int(generator.integers(0, 20)),
    )
    prompt_ids, output_ids = generator.integers(0, 60, (2, 10)).tolist()
    compare_with_transformers(theirs, generator.normal(size=60) * 2, sampling, prompt_ids, output_ids)


def compare_with_transformers(
    theirs: Any, logits_V: np.ndarray, sampling: Sampling, prompt_ids: list[int], output_ids: list[int]
) -> None:
    sequence = {"prompt_ids": prompt_ids, "output_ids": output_ids}

    def probs_of(sampling: Sampling) -> np.ndarray:
        return reference_distribution(logits_V, sampling, **sequence, eos_token_id=EOS)

    expected_V = transformers_probs(theirs, logits_V, sampling, **sequence)
    reference_V = assume_no_border_is_touched(probs_of, sampling)
    state = state_of(sampling, prompt_ids, output_ids, logits_V.size)
    assert_equal_but_for_ties(reference_V, expected_V, state.penalized(logits_V))
    assert_equal_but_for_ties(distribution(logits_V, state), expected_V, state.penalized(logits_V))


def without_output_penalties(sampling: Sampling) -> Sampling:
    """Transformers has neither of them."""
    return dataclasses.replace(sampling, presence_penalty=0.0, frequency_penalty=0.0)


@given(case=cases())
def test_output_penalties_are_those_of_openai(case):
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, where c[j] counts what was sampled."""
    logits_V, _, prompt_ids, output_ids = case
    sampling = Sampling(temperature=1, top_p=1, repetition_penalty=1, presence_penalty=0.75, frequency_penalty=-0.25)
    mu = logits_V.astype(np.float64)
    for token_id in range(logits_V.size):
        count = output_ids.count(token_id)
        mu[token_id] = mu[token_id] - count * -0.25 - float(count > 0) * 0.75
    expected_V = np.exp(mu - mu.max()) / np.exp(mu - mu.max()).sum()
    reference_V = reference_distribution(
        logits_V, sampling, prompt_ids=prompt_ids, output_ids=output_ids, eos_token_id=EOS
    )
    np.testing.assert_allclose(reference_V, expected_V, atol=1e-12)
    state = state_of(sampling, prompt_ids, output_ids, logits_V.size)
    np.testing.assert_allclose(distribution(logits_V, state), expected_V, atol=1e-12)


def test_of_equal_tokens_top_p_keeps_the_first_and_top_k_all():
    scores_V = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    assert np.isfinite(keep_top_k(scores_V, 2)).tolist() == [False, True, True, True, False]
    assert np.isfinite(keep_top_p(scores_V, 0.4, 1.0)).tolist() == [False, True, True, False, False]


def test_min_p_is_relative_to_the_likeliest():
    scores_V = np.log([0.5, 0.3, 0.15, 0.05])
    assert np.isfinite(keep_min_p(scores_V, 0.25, 1.0)).tolist() == [True, True, True, False]


def test_typical_may_drop_the_likeliest():
    """Of a distribution with one likely token and many equal ones, those are nearer to the expected surprise."""
    scores_V = np.log([0.2, *[0.04] * 20])
    kept = np.isfinite(keep_typical(scores_V, 0.5, 1.0))
    assert kept.tolist() == [False, *[True] * 20]
