"""Draws in torch: the distributions of the slow twin, and the tokens that the CPU's sampler draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_cases import EOS, assert_equal_but_for_ties, assume_no_border_is_touched, cases, state_of

from stentor.runtime.network import NO_NUMBERS, NONE_LEFT
from stentor.runtime.sampling import Sampling, distribution
from stentor.runtime.sampling_kernels import drawn
from stentor.runtime.sampling_reference import reference_distribution
from stentor.runtime.torch_sampling import TorchSampler


def sampler_of(
    sampling: Sampling, prompt_ids: list[int], vocab_size: int, *, num_sequences: int = 1, num_tokens: int | None = None
) -> TorchSampler:
    return TorchSampler(
        sampling,
        prompt_ids,
        num_sequences=num_sequences,
        vocab_size=vocab_size,
        num_tokens=vocab_size if num_tokens is None else num_tokens,
        eos_token_id=EOS,
        device=torch.device("cpu"),
    )


@given(case=cases())
@settings(max_examples=60)
def test_distributions_are_those_of_the_definition(case):
    logits_V, sampling, prompt_ids, output_ids = case

    def expected(each: Sampling) -> np.ndarray:
        return reference_distribution(logits_V, each, prompt_ids=prompt_ids, output_ids=output_ids, eos_token_id=EOS)

    expected_V = assume_no_border_is_touched(expected, sampling)
    sampler = sampler_of(sampling, prompt_ids, logits_V.size, num_sequences=2)
    for token_id in output_ids:
        sampler.push(torch.tensor([token_id, (token_id + 1) % logits_V.size]))
    found_BV = sampler.distribution(torch.from_numpy(logits_V).repeat(2, 1))
    # penalties are float32 on the device
    assert_equal_but_for_ties(found_BV[0].numpy(), expected_V, logits_V, atol=1e-7)


@given(
    seed=st.integers(0, 2**32),
    sampling=st.sampled_from(
        [
            Sampling(),
            Sampling(temperature=0),
            Sampling(temperature=0, repetition_penalty=1.0),
            Sampling(top_k=7, top_p=1.0, frequency_penalty=0.3, presence_penalty=0.2),
            Sampling(top_p=0.9, min_p=0.02, typical_p=0.8, min_new_tokens=4, logit_bias={3: 2.0, 5: -np.inf}),
            Sampling(temperature=1.7, top_p=1.0, ignore_eos=True),
        ]
    ),
)
@settings(max_examples=30)
def test_texts_side_by_side_are_those_that_the_other_sampler_draws(seed, sampling):
    numbers = np.random.default_rng(seed)
    prompt_ids = numbers.integers(0, 90, 5).tolist()
    sampler = sampler_of(sampling, prompt_ids, 97, num_sequences=3, num_tokens=90)
    states = [state_of(sampling, prompt_ids, [], 97) for _ in range(3)]
    for _ in range(8):
        logits_BV = (numbers.normal(size=(3, 97)) * 3).astype(np.float32)
        uniform_B = numbers.random(3)
        found = sampler.draw(torch.from_numpy(logits_BV), torch.from_numpy(uniform_B)).tolist()
        logits_BV[:, 90:] = -np.inf
        for token_id, logits_V, state, uniform in zip(found, logits_BV, states, uniform_B, strict=True):
            assert token_id == drawn(distribution(logits_V, state), uniform)
            state.push(token_id)


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 1e-16])
def test_the_ends_of_the_unit_interval_give_tokens_that_can_be_drawn(number):
    logits_BV = torch.tensor([[-torch.inf, 1.0, 1.0, -torch.inf]])
    sampler = sampler_of(Sampling(top_p=1.0, repetition_penalty=1.0), [1], 4)
    assert int(sampler.draw(logits_BV, torch.tensor([number], dtype=torch.float64))) in (1, 2)


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_why_there_is_no_token_is_said_and_the_others_go_on(temperature):
    sampler = sampler_of(Sampling(temperature=temperature, ignore_eos=True), [1], 3, num_sequences=4)
    nothing, broken, endless = [0.0, -torch.inf, -torch.inf], [0.0, torch.nan, 1.0], [0.0, torch.inf, 0.0]
    logits_BV = torch.tensor([nothing, broken, endless, [9.0, 1.0, -9.0]])
    found = sampler.draw(logits_BV, torch.full((4,), 0.2, dtype=torch.float64)).tolist()
    assert found == [NONE_LEFT, NO_NUMBERS, NO_NUMBERS, 1]
