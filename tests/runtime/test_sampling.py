"""Settings, what a continuation remembers, and draws against their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import EOS, cases, logits, samplings, state_of

from stentor.errors import UserError
from stentor.runtime.sampling import Sampling, distribution, draw, generator_of, sample

VOCAB = 50


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1, top_p=1, repetition_penalty=1),
        Sampling(top_k=3, min_p=0.1, typical_p=0.9, presence_penalty=1, logit_bias={2: 1.5, 4: -math.inf}),
        Sampling(temperature=0),
    ],
)
def test_draws_follow_the_distribution(sampling):
    logits_V = np.array([2.0, 1.0, 0.5, -1.0, 1.5, -np.inf])
    state, generator = state_of(sampling, [1], [0, 2], logits_V.size), generator_of(0)
    draws = [sample(logits_V, state, generator) for _ in range(20_000)]
    shares_V = np.bincount(draws, minlength=logits_V.size) / len(draws)
    probs_V = distribution(logits_V, state)
    np.testing.assert_allclose(shares_V, probs_V, atol=0.012)
    assert not shares_V[probs_V == 0].any()
    assert probs_V[5] == 0


@given(case=cases())
def test_a_draw_depends_on_its_arguments_alone(case):
    logits_V, sampling, prompt_ids, output_ids = case
    state, before_V = state_of(sampling, prompt_ids, output_ids, logits_V.size), logits_V.copy()
    probs_V = distribution(logits_V, state)
    first = sample(logits_V, state, generator_of(7))
    assert sample(logits_V, state, generator_of(7)) == first == draw(probs_V, generator_of(7))
    assert first == sample(logits_V, state_of(sampling, prompt_ids, output_ids, logits_V.size), generator_of(7))
    assert np.array_equal(logits_V, before_V)
    assert np.array_equal(distribution(logits_V, state), probs_V)


def test_a_draw_takes_one_random_number():
    generator, twin = generator_of(3), generator_of(3)
    sample(np.zeros(VOCAB), state_of(Sampling(), [1], [], VOCAB), generator)
    twin.random()
    assert generator.random() == twin.random()


@pytest.mark.parametrize("make", [np.float16, np.float32, np.float64])
def test_logits_of_any_precision_that_may_not_be_written(make):
    logits_V = np.arange(VOCAB)[::-1].astype(make)[::-1]
    logits_V.flags.writeable = False
    probs_V = distribution(logits_V, state_of(Sampling(), [1], [], VOCAB))
    assert np.array_equal(probs_V, distribution(np.arange(VOCAB) * 1.0, state_of(Sampling(), [1], [], VOCAB)))


# --- state ---


@given(logits(st.just(20)), samplings(vocab_size=20), st.lists(st.integers(-1, 19), max_size=30), st.data())
def test_a_state_that_goes_back_and_forth_is_one_made_anew(logits_V, sampling, moves, data):
    prompt_ids, output_ids = data.draw(st.lists(st.integers(0, 19), max_size=8)), []
    state = state_of(sampling, prompt_ids, [], 20)
    for move in moves:
        if move >= 0:
            state.push(move)
            output_ids.append(move)
        elif output_ids:
            assert state.pop() == output_ids.pop()
    anew = state_of(sampling, prompt_ids, output_ids, 20)
    assert state.output_ids == output_ids
    assert np.array_equal(state.penalized(logits_V), anew.penalized(logits_V))


def test_the_prompt_counts_for_the_repetition_penalty_alone():
    logits_V = np.ones(4)
    output_penalties = Sampling(repetition_penalty=1, presence_penalty=0.5, frequency_penalty=0.25)
    assert state_of(output_penalties, [2, 2], [3, 3], 4).penalized(logits_V).tolist() == [1, 1, 1, 0]
    assert state_of(Sampling(repetition_penalty=2), [2, 2], [3], 4).penalized(logits_V).tolist() == [1, 1, 0.5, 0.5]


def test_penalties_come_after_the_bias_and_in_order():
    sampling = Sampling(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={1: 3})
    assert state_of(sampling, [0], [1, 1], 3).penalized(np.array([1.0, 1.0, 1.0])).tolist() == [0.5, 1, 1]


def test_eos_waits_for_enough_tokens_or_for_ever():
    logits_V = np.eye(4)[EOS] * 100
    state = state_of(Sampling(min_new_tokens=2), [1], [], 4)
    for is_forbidden in (True, True, False, False):
        assert bool(distribution(logits_V, state)[EOS] == 0) is is_forbidden
        state.push(3)
    assert distribution(logits_V, state_of(Sampling(ignore_eos=True), [1], [2] * 9, 4))[EOS] == 0


def test_where_every_token_is_forbidden_the_error_says_so():
    sampling = Sampling(logit_bias={1: -math.inf}, ignore_eos=True)
    with pytest.raises(UserError, match="every token is forbidden"):
        distribution(np.zeros(2), state_of(sampling, [1], [], 2))


# --- random numbers ---


def test_each_continuation_has_random_numbers_of_its_own():
    numbers = {(seed, index): generator_of(seed, index).random() for seed in range(9) for index in range(9)}
    assert len(set(numbers.values())) == len(numbers)
    assert generator_of(5, 3).random() == numbers[5, 3]


def test_the_first_continuation_has_the_numbers_of_the_seed():
    assert generator_of(11).random() == np.random.default_rng(11).random()


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed is -1"):
        generator_of(-1)


# --- settings ---


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 1e-300}, "temperature is 1e-300"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"top_k": math.nan}, "top_k is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"min_p": 2}, "min_p is 2"),
        ({"typical_p": 0}, "typical_p is 0"),
        ({"typical_p": math.nan}, "typical_p is nan"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"repetition_penalty": math.inf}, "repetition_penalty is inf"),
        ({"presence_penalty": 101}, "presence_penalty is 101"),
        ({"frequency_penalty": math.nan}, "frequency_penalty is nan"),
        ({"logit_bias": {-1: 2}}, "a token id of logit_bias is -1"),
        ({"logit_bias": {7: math.nan}}, "logit_bias of token 7 is nan"),
        ({"logit_bias": {7: math.inf}}, "logit_bias of token 7 is inf"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
    ],
)
def test_settings_out_of_range_are_refused(bad, said):
    with pytest.raises(UserError) as caught:
        Sampling(**bad)
    assert caught.value.message == said
    assert caught.value.fix.startswith("use a")
