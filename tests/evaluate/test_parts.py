"""The loss in parts: they add up to the whole, and windows that overlap see more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.evaluate.parts import evaluate_parts, positions_of, strided_nats
from stentor.evaluate.text import encode_documents, evaluate

TEXTS = ["The people of this world.", "", "caf\u00e9 " * 40, "When he was one, then she said so."]


@pytest.fixture(scope="module", params=[None, 48, 20, 1])
def stride(request):
    return request.param


def slow_nats(model, log_probs_of, stride: int) -> tuple[list[float], list[int]]:
    """Score each token alone after what its window has before it; and its position there."""
    eos, length = model.tokenizer.eos_token_id, 48
    ids = encode_documents(model.tokenizer, TEXTS).token_ids.tolist()
    stream, nats, positions = [eos, *ids], [], []
    for place in range(len(ids)):
        if stride == length:
            first = place // length * length
        elif place < length:
            first = 0
        else:
            end = min(length + ((place - length) // stride + 1) * stride, len(ids))
            first = end - length
        nats.append(-log_probs_of(model, stream[first : place + 1], [ids[place]])[0])
        positions.append(place - first)
    return nats, positions


def test_tokens_are_scored_as_the_slow_twin_scores_them(model, log_probs_of, stride):
    nats, positions = slow_nats(model, log_probs_of, stride or 48)
    ids = encode_documents(model.tokenizer, TEXTS).token_ids
    found = np.concatenate(list(strided_nats(model.network, ids, model.tokenizer.eos_token_id, stride or 48)))
    assert found == pytest.approx(nats, abs=1e-4)
    assert positions_of(len(ids), 48, stride or 48).tolist() == positions


def test_parts_add_up_to_the_whole(model, stride):
    parts = evaluate_parts(model, TEXTS, stride=stride)
    total = parts.whole.loss_nats * parts.whole.num_tokens
    for of in (parts.documents, parts.positions):
        assert math.fsum(part.nats for part in of) == pytest.approx(total)
        assert sum(part.num_tokens for part in of) == parts.whole.num_tokens
        assert sum(part.num_bytes for part in of) == pytest.approx(parts.whole.num_bytes)


def test_without_a_stride_the_whole_is_the_evaluation(model):
    whole, expected = evaluate_parts(model, TEXTS).whole, evaluate(model, TEXTS)
    assert whole.loss_nats == pytest.approx(expected.loss_nats, rel=1e-12)
    assert (whole.num_tokens, whole.num_bytes) == (expected.num_tokens, expected.num_bytes)


def test_documents_keep_their_bytes_and_tokens(model):
    documents = evaluate_parts(model, TEXTS).documents
    assert [part.num_bytes for part in documents] == [len(text.encode()) for text in TEXTS]
    assert [part.num_tokens for part in documents] == [len(model.tokenizer.encode(text)) + 1 for text in TEXTS]
    assert documents[1].bits_per_byte is None
    assert documents[1].to_dict()["bits_per_byte"] is None
    assert documents[0].to_dict()["loss_nats"] == documents[0].nats / documents[0].num_tokens


def test_positions_are_ranges_twice_as_wide_each(model):
    parts = evaluate_parts(model, TEXTS).positions
    assert [part.name for part in parts] == ["0", "1", "2-3", "4-7", "8-15", "16-31", "32-63"]
    assert [part.name for part in evaluate_parts(model, ["a"]).positions] == ["0", "1"]
    assert parts[3].to_dict().keys() == {"loss_nats", "perplexity", "bits_per_byte", "num_tokens", "num_bytes"}


def test_a_text_within_the_context_needs_no_stride(model):
    short = ["The people"]
    assert evaluate_parts(model, short, stride=1).whole == evaluate_parts(model, short).whole


@given(st.integers(1, 300), st.integers(2, 40), st.data())
def test_every_token_has_a_position_within_the_context(num_tokens, context_length, data):
    stride = data.draw(st.integers(1, context_length))
    positions = positions_of(num_tokens, context_length, stride)
    assert len(positions) == num_tokens
    assert positions.min() >= 0
    assert positions.max() < context_length
    assert positions[0] == 0
    if stride < context_length:
        assert (positions[context_length:] >= context_length - stride).all()


@pytest.mark.parametrize("stride", [0, -1, 49])
def test_a_stride_beyond_the_context_is_refused(model, stride):
    with pytest.raises(UserError, match="and the model's context 48 tokens") as caught:
        evaluate_parts(model, TEXTS, stride=stride)
    assert "from 1 to 48" in caught.value.fix


def test_no_text_is_refused(model):
    with pytest.raises(UserError, match="no text to evaluate on"):
        evaluate_parts(model, ["", ""])


def test_progress_ends_at_the_whole(model, stride):
    seen: list[tuple[int, int]] = []
    parts = evaluate_parts(model, TEXTS, stride=stride, on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (parts.whole.num_tokens, parts.whole.num_tokens)


def test_a_vocabulary_that_changes_lengths_still_adds_up(model, tiny_tokenmonster):
    from stentor.runtime.engine import LanguageModel

    parts = evaluate_parts(LanguageModel(model.network, tiny_tokenmonster), ["caf\u00e9 The people", "of this"])
    assert sum(part.num_bytes for part in parts.positions) == pytest.approx(parts.whole.num_bytes)
