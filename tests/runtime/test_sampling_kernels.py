"""The fast distribution against its slow twin, for vocabularies of every size, and each kernel for itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sampling_cases import EOS, assert_equal_but_for_ties, assume_no_border_is_touched, cases, state_of

from stentor.compiled import kernel
from stentor.runtime import sampling_kernels
from stentor.runtime.sampling import Sampling, distribution
from stentor.runtime.sampling_kernels import drawn
from stentor.runtime.sampling_reference import reference_distribution

LARGE = st.integers(sampling_kernels.FEW, 3000)


def compare_with_the_slow_twin(case) -> None:
    logits_V, sampling, prompt_ids, output_ids = case

    def probs_of(sampling: Sampling) -> np.ndarray:
        return reference_distribution(
            logits_V, sampling, prompt_ids=prompt_ids, output_ids=output_ids, eos_token_id=EOS
        )

    expected_V = assume_no_border_is_touched(probs_of, sampling)
    state = state_of(sampling, prompt_ids, output_ids, logits_V.size)
    probs_V = distribution(logits_V, state)
    assert_equal_but_for_ties(probs_V, expected_V, state.penalized(logits_V))
    np.testing.assert_allclose(probs_V, expected_V, atol=1e-9, rtol=0)  # ours agree on ties too
    assert probs_V.sum() == pytest.approx(1, abs=1e-12)


@given(case=cases())
def test_the_slow_twin_says_the_same(case):
    compare_with_the_slow_twin(case)


@settings(max_examples=60)
@given(case=cases(LARGE))
def test_the_slow_twin_says_the_same_of_many_tokens(case):
    compare_with_the_slow_twin(case)


@given(st.integers(0, 2**32), st.integers(1, 2000))
def test_temperature_zero_is_greedy_and_takes_the_first_of_equals(seed, vocab_size):
    logits_V = np.round(np.random.default_rng(seed).normal(size=vocab_size) * 2)
    state = state_of(Sampling(temperature=0, repetition_penalty=1), [0], [], vocab_size)
    assert distribution(logits_V, state).tolist() == np.eye(vocab_size)[logits_V.argmax()].tolist()


@pytest.mark.parametrize("top_p", [1e-300, 1e-17, 0.5, 1 - 1e-16])
@pytest.mark.parametrize("spread", [0, 1e-300, 1e-20, 1e-16, 1e-15, 1e-12])
def test_keys_too_close_to_be_divided(top_p, spread):
    """Their mean is rounded to one of them, and in float64 all their weights are 1."""
    logits_V = 1e-9 + spread * np.random.default_rng(3).permutation(1000)
    neutral = Sampling(temperature=1, top_p=1, repetition_penalty=1)
    for sampling in (dataclasses.replace(neutral, top_p=top_p), dataclasses.replace(neutral, top_k=77)):
        probs_V = distribution(logits_V, state_of(sampling, [0], [], 1000))
        expected_V = reference_distribution(logits_V, sampling, prompt_ids=[0], output_ids=[], eos_token_id=EOS)
        assert abs(int((probs_V > 0).sum()) - int((expected_V > 0).sum())) <= 1
        assert probs_V.sum() == pytest.approx(1)
        assert probs_V[logits_V.argmax()] > 0


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000])
def test_sums_and_maxima_of_any_length(size):
    values = np.random.default_rng(size).normal(size=size)
    assert sampling_kernels._sum(values) == pytest.approx(values.sum(), rel=1e-12, abs=1e-12)
    assert sampling_kernels._highest(values, 0, size) == values.max()
    assert sampling_kernels._highest(values, size // 3, size) == values[size // 3 :].max()


@given(st.integers(0, 2**32), st.integers(1, 300), st.data())
def test_enough_values_reach_the_lowest_of_maxima(seed, size, data):
    values, count = np.random.default_rng(seed).normal(size=size), data.draw(st.integers(1, size))
    assert (values >= sampling_kernels._lowest_of_maxima(values, count)).sum() >= count


def test_exp_is_exact_to_the_last_places():
    @kernel
    def exps(values):
        return np.array([sampling_kernels._exp(value) for value in values])

    values = np.concatenate([-np.geomspace(1e-300, 700, 5000), np.zeros(1)])
    np.testing.assert_allclose(exps(values), np.exp(values), rtol=5e-16)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.integers(0, 100), st.booleans())
def test_the_border_is_where_a_sorted_sum_reaches_what_is_wanted(keys, percent, by_count):
    keys_V = np.array(keys * 3, np.float64)
    weights_V = np.random.default_rng(len(keys)).integers(1, 9, keys_V.size)
    masses_V = np.ones(keys_V.size) if by_count else weights_V.astype(np.float64)
    wanted = max(1.0, np.floor(masses_V.sum() * percent / 100))
    order = np.argsort(-keys_V, kind="stable")
    last = int(np.searchsorted(np.cumsum(masses_V[order]), wanted))
    border, num_kept = sampling_kernels._border(keys_V, masses_V, wanted, -np.inf)
    assert border == keys_V[order[last]]
    if by_count:
        assert num_kept == (keys_V[order[: last + 1]] == border).sum()


@given(st.integers(0, 2**32), st.floats(0, 1, exclude_max=True))
@example(seed=0, uniform=1 - 2**-53)
@example(seed=0, uniform=0.0)
def test_a_draw_is_a_search_in_the_cumulative_sum(seed, uniform):
    generator = np.random.default_rng(seed)
    probs_V = generator.dirichlet(np.ones(30)) * (generator.random(30) < 0.5)
    probs_V[4] = 0.1
    probs_V /= probs_V.sum()
    cumulative_V = np.cumsum(probs_V)
    expected = min(int(np.searchsorted(cumulative_V, uniform, side="right")), int(np.flatnonzero(probs_V)[-1]))
    assert drawn(probs_V, uniform) == expected
    assert probs_V[drawn(probs_V, uniform)] > 0
