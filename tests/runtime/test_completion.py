"""What is noted about each token: log-probabilities of the model's own distribution and the likeliest alternatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import logits

from stentor.errors import UserError
from stentor.runtime.completion import ScoredToken, TokenRecord, likeliest, log_softmax
from stentor.runtime.continuation import GenerationStats


@given(logits())
def test_log_probs_equal_torch(logits_V):
    expected_V = torch.tensor(logits_V, dtype=torch.float64).log_softmax(-1).numpy()
    np.testing.assert_allclose(log_softmax(logits_V), expected_V, rtol=1e-12, atol=1e-12)


@given(logits(), st.integers(0, 70))
def test_alternatives_are_the_beginning_of_a_sorted_list(logits_V, count):
    log_probs_V = log_softmax(logits_V)
    everything = sorted((-log_prob, token_id) for token_id, log_prob in enumerate(log_probs_V) if log_prob > -np.inf)
    assert likeliest(log_probs_V, count) == [(token_id, -negative) for negative, token_id in everything[:count]]


def test_a_record_keeps_what_was_asked_for():
    logits_V = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    for logprobs, alternatives in ((0, []), (1, [0]), (2, [0, 1]), (9, [0, 1, 2])):
        record = TokenRecord(logprobs)
        record.add(1, logits_V)
        completion = record.completion("text", GenerationStats(finish_reason="stop"))
        assert completion.log_probs == [pytest.approx(np.log(0.3), abs=1e-7)]
        assert completion.top_alternatives
        assert [token.token_id for token in completion.top_alternatives[0]] == alternatives
        assert (completion.text, completion.token_ids, completion.finish_reason) == ("text", [1], "stop")


def test_a_record_of_tokens_alone_computes_nothing():
    record = TokenRecord()
    record.add(1, np.array([]))
    completion = record.completion("", GenerationStats())
    assert (completion.token_ids, completion.log_probs, completion.top_alternatives) == ([1], None, None)


def test_a_scored_token_is_a_pair():
    assert likeliest(np.array([-2.0, -0.5]), 1) == [ScoredToken(token_id=1, log_prob=-0.5)] == [(1, -0.5)]


def test_a_negative_number_of_alternatives_is_refused():
    with pytest.raises(UserError, match="logprobs is -1"):
        TokenRecord(-1)
