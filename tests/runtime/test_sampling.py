"""Sampling against transformers' logits processors, and its draws against their probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stentor.errors import UserError
from stentor.runtime.sampling import Sampling, distribution, penalize_repetition, sample, softmax

VOCAB = 50


def transformers_probs(logits_V: np.ndarray, seen_ids: list[int], sampling: Sampling) -> np.ndarray:
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        processors.append(MinPLogitsWarper(sampling.min_p))
    scores = processors(torch.LongTensor([seen_ids]), torch.DoubleTensor(logits_V[None]))
    return scores.softmax(-1)[0].numpy()


def our_probs(logits_V: np.ndarray, seen_ids: list[int], sampling: Sampling) -> np.ndarray:
    penalized_V = penalize_repetition(logits_V, seen_ids, sampling.repetition_penalty)
    return distribution(penalized_V / sampling.temperature, sampling)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, VOCAB + 5),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.9),
    penalty=st.floats(0.5, 2),
    seen_ids=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8),
)
def test_the_distribution_equals_transformers(seed, temperature, top_k, top_p, min_p, penalty, seen_ids):
    logits_V = np.random.default_rng(seed).normal(size=VOCAB) * 3
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    ours, theirs = our_probs(logits_V, seen_ids, sampling), transformers_probs(logits_V, seen_ids, sampling)
    kept_by_both = (ours > 0) & (theirs > 0)
    # A token exactly on a border may fall either way in floating point; it then carries almost no mass alone.
    assert ((ours > 0) != (theirs > 0)).sum() <= 1
    if ((ours > 0) == (theirs > 0)).all():
        np.testing.assert_allclose(ours[kept_by_both], theirs[kept_by_both], rtol=1e-9)


def test_draws_follow_the_distribution():
    logits_V = np.array([2.0, 1.0, 0.0, -1.0, -np.inf])
    sampling = Sampling(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
    generator = np.random.default_rng(0)
    draws = [sample(logits_V, [], sampling, generator) for _ in range(20_000)]
    shares = np.bincount(draws, minlength=5) / len(draws)
    np.testing.assert_allclose(shares, softmax(logits_V), atol=0.012)
    assert shares[4] == 0


@given(st.integers(0, 1000))
def test_temperature_zero_is_greedy(seed):
    logits_V = np.random.default_rng(seed).normal(size=VOCAB)
    sampling = Sampling(temperature=0, repetition_penalty=1.0)
    assert sample(logits_V, [], sampling, np.random.default_rng(0)) == int(logits_V.argmax())


def test_the_same_seed_draws_the_same():
    logits_V = np.zeros(VOCAB)

    def draw(seed: int) -> list[int]:
        generator = np.random.default_rng(seed)
        return [sample(logits_V, [], Sampling(), generator) for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_the_logits_are_not_changed():
    logits_V = np.linspace(-1, 1, VOCAB).astype(np.float32)
    before = logits_V.copy()
    sample(logits_V, [1, 2], Sampling(top_k=3, min_p=0.1), np.random.default_rng(0))
    assert np.array_equal(logits_V, before)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("inf")},
        {"temperature": 1e-300},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"repetition_penalty": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad))) as caught:
        Sampling(**bad)
    assert caught.value.fix
