"""Runs by heart: those of text that is really made, from places that the seed chooses."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.evaluate.memorization import _sample, greedy_run, memorization


def greedy_ids(model, prompt: list[int], count: int) -> list[int]:
    """Make text, one token after the other."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        ids.append(int(model.network.fresh().extend(ids, 0)[0].argmax()))
    return ids


@pytest.mark.parametrize("prompt_length", [1, 3, 20])
@pytest.mark.parametrize("wrong_at", [0, 1, 15, 16, 17, 24, None])
def test_a_run_ends_where_made_text_parts_from_the_document(model, prompt_length, wrong_at):
    ids = greedy_ids(model, list(range(40, 40 + prompt_length)), 25)
    if wrong_at is not None:
        ids[prompt_length + wrong_at] = (ids[prompt_length + wrong_at] + 1) % 300
    assert greedy_run(model.network.fresh(), ids, prompt_length) == (25 if wrong_at is None else wrong_at)


@given(st.lists(st.integers(0, 319), min_size=3, max_size=40), st.data())
def test_a_run_is_that_of_the_slow_twin(model, ids, data):
    prompt_end = data.draw(st.integers(1, len(ids) - 1))
    made = greedy_ids(model, ids[:prompt_end], len(ids) - prompt_end)
    expected = next(
        (n for n, (a, b) in enumerate(zip(ids[prompt_end:], made[prompt_end:], strict=True)) if a != b), None
    )
    found = greedy_run(model.network.fresh(), ids, prompt_end)
    assert found == (len(ids) - prompt_end if expected is None else expected)


def documents(prose, count: int = 30) -> list[tuple[str, str]]:
    return [(f"d{index}", text) for index, text in enumerate(prose(count))]


def test_a_sample_is_drawn_and_its_runs_are_counted(model, prose_documents):
    found = memorization(model, documents(prose_documents), num_samples=12, num_prompt_tokens=6, seed=1)
    again = memorization(model, iter(documents(prose_documents)), num_samples=12, num_prompt_tokens=6, seed=1)
    other = memorization(model, documents(prose_documents), num_samples=12, num_prompt_tokens=6, seed=2)
    assert found == again
    assert [run.document for run in found.runs] != [run.document for run in other.runs]
    assert (len(found.runs), found.num_documents) == (12, 30)
    assert len({run.document for run in found.runs}) == 12


def test_a_sample_is_uniform():
    counts = np.zeros(20)
    for seed in range(2000):
        for name, _ in _sample(((str(n), "") for n in range(20)), 5, random.Random(seed))[0]:
            counts[int(name)] += 1
    assert counts == pytest.approx(np.full(20, 500), abs=90)


def test_the_numbers_have_documented_names(model, prose_documents):
    found = memorization(model, [*documents(prose_documents, 8), ("short", "a")], num_samples=20, num_prompt_tokens=5)
    value = json.loads(json.dumps(found.to_dict()))
    lengths = [run["num_tokens"] for run in value["runs"]]
    assert (value["num_samples"], value["num_short_documents"], value["num_documents"]) == (8, 1, 9)
    assert value["mean_tokens"] == pytest.approx(np.mean(lengths))
    assert value["longest_tokens"] == max(lengths)
    assert value["share_at_least"]["1"] == np.mean([length >= 1 for length in lengths])
    assert value["quantiles"].keys() == {"0.5", "0.9", "0.99"}
    assert value["num_prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_samples": 0}, "0 documents cannot be sampled"),
        ({"num_prompt_tokens": 0}, "a prompt of 0 tokens"),
        ({"num_prompt_tokens": 47}, "leaves no room in a context of 48"),
    ],
)
def test_settings_out_of_range_are_refused(model, settings, said):
    with pytest.raises(UserError, match=said):
        memorization(model, [("a", "text")], **settings)


@pytest.mark.parametrize("texts", [[], [("a", "of it")], [("a", "")]])
def test_documents_too_short_are_refused(model, texts):
    with pytest.raises(UserError, match="no sampled document has more than 32 tokens"):
        memorization(model, texts)


def test_progress_counts_documents(model, prose_documents):
    seen: list[tuple[int, int]] = []
    memorization(model, documents(prose_documents, 4), num_prompt_tokens=4, on_progress=lambda *now: seen.append(now))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
