"""With a draft the text is what it is without one: exactly so, in distribution, whatever the draft."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from speculative_cases import (
    GREEDY,
    PLAIN,
    TableNetwork,
    draft_of,
    exact_outcomes,
    mixed,
    outcomes,
    patch_draws,
    plain_tokens,
    speculated,
    state_of,
)

from stentor.runtime.sampling import Sampling, generator_of
from stentor.runtime.speculative.decoding import DraftStats
from stentor.tokenizer.bpe import train_bpe

METHODS = ["tokens", "intersection", "text", "lookup"]
PENALIZED = Sampling(
    temperature=0.8,
    top_k=4,
    top_p=0.95,
    min_p=0.02,
    repetition_penalty=1.4,
    presence_penalty=0.3,
    frequency_penalty=0.2,
    min_new_tokens=2,
)
SETTINGS = {
    "plain": PLAIN,
    "penalties": PENALIZED,
    "typical": Sampling(typical_p=0.8, top_p=1),
    "frequent": Sampling(temperature=1.5, top_p=1, frequency_penalty=-1.0, repetition_penalty=0.7),
}


@pytest.fixture(scope="session")
def other_tokenizer(prose_documents):
    """Return another BPE vocabulary, which knows other words."""
    return train_bpe([text.replace("th", "z").replace("e", "ee") for text in prose_documents(80)], vocab_size=300)


@pytest.fixture
def vocabularies(tiny_tokenizer, other_tokenizer, tiny_tokenmonster):
    return {"bpe": tiny_tokenizer, "other bpe": other_tokenizer, "tokenmonster": tiny_tokenmonster}


def prompts(tokenizer, count: int) -> list[list[int]]:
    generator = np.random.default_rng(5)
    sizes = generator.integers(1, 20, count)
    return [generator.integers(3, tokenizer.vocab_size - 3, size).tolist() for size in sizes]


# --- greedy: the same text ---


PAIRS = [
    ("tokens", "bpe", "bpe"),
    ("intersection", "bpe", "other bpe"),
    ("intersection", "other bpe", "bpe"),
    ("intersection", "bpe", "tokenmonster"),
    ("intersection", "tokenmonster", "bpe"),
    ("text", "bpe", "bpe"),
    ("text", "bpe", "other bpe"),
    ("text", "other bpe", "bpe"),
    ("text", "bpe", "tokenmonster"),
    ("text", "tokenmonster", "bpe"),
    ("lookup", "bpe", "bpe"),
]
each_pair = pytest.mark.parametrize(("method", "target", "draft"), PAIRS, ids=[", ".join(pair) for pair in PAIRS])


def compare_greedy(vocabularies, method: str, target: str, draft: str, num_prompts: int) -> None:
    tokenizer, draft_tokenizer = vocabularies[target], vocabularies[draft]
    network = TableNetwork(tokenizer.vocab_size + 5, allowed=range(tokenizer.vocab_size))
    draft_network = TableNetwork(draft_tokenizer.vocab_size + 9, seed=1, context_length=50)
    sampling = Sampling(temperature=0, repetition_penalty=1.1, presence_penalty=0.1)
    for prompt_ids in prompts(tokenizer, num_prompts):
        made = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, sampling, network.config.vocab_size)
        with_draft = speculated(network.fresh(), tokenizer, made, prompt_ids, sampling, count=60)
        assert with_draft == plain_tokens(network, tokenizer, prompt_ids, sampling, count=60, seed=0)


@each_pair
def test_greedy_text_is_the_same_with_a_random_draft(vocabularies, method, target, draft):
    compare_greedy(vocabularies, method, target, draft, 15)


@pytest.mark.slow
@each_pair
def test_greedy_text_is_the_same_on_many_prompts(vocabularies, method, target, draft):
    compare_greedy(vocabularies, method, target, draft, 1000)


@pytest.mark.parametrize("length", [1, 3, 7, None])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_greedy_text_is_the_same_with_drafts_that_are_often_right(tiny_tokenizer, length, share):
    vocab_size = tiny_tokenizer.vocab_size
    target, stats = TableNetwork(vocab_size), DraftStats("tokens")
    draft_network = mixed(target, TableNetwork(vocab_size, seed=1), share)
    for prompt_ids in prompts(tiny_tokenizer, 8):
        draft = draft_of("tokens", draft_network.fresh(), tiny_tokenizer, tiny_tokenizer, GREEDY, vocab_size)
        made = speculated(
            target.fresh(), tiny_tokenizer, draft, prompt_ids, GREEDY, count=40, length=length, stats=stats
        )
        assert made == plain_tokens(target, tiny_tokenizer, prompt_ids, GREEDY, count=40, seed=0)
    assert stats.acceptance_rate == 1 if share == 0 else 0.05 < stats.acceptance_rate < 1


@pytest.mark.parametrize("method", ["text", "lookup"])
@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_chosen_tokens_leave_the_text_of_a_seed_as_it_is(vocabularies, method, sampling):
    tokenizer, draft_tokenizer = vocabularies["bpe"], vocabularies["other bpe"]
    target = TableNetwork(tokenizer.vocab_size, spread=3)
    draft_network = TableNetwork(draft_tokenizer.vocab_size, seed=1)
    for seed, prompt_ids in enumerate(prompts(tokenizer, 8)):
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, sampling, tokenizer.vocab_size)
        made = speculated(
            target.fresh(), tokenizer, draft, prompt_ids, sampling, count=40, generator=generator_of(seed)
        )
        assert made == plain_tokens(target, tokenizer, prompt_ids, sampling, count=40, seed=seed)


# --- sampled: the same distribution ---


def letters(tokenizer, text: str) -> list[int]:
    ids = [token_id for letter in text for token_id in tokenizer.encode(letter)]
    assert len(ids) == len(text)
    return ids


def compare_exactly(target_tokenizer, draft_tokenizer, method: str, length: int, sampling: Sampling) -> None:
    """Compare the first two tokens' distribution with the target's, by running every way the draws can come out."""
    allowed = [*letters(target_tokenizer, "abc"), target_tokenizer.eos_token_id]
    vocab_size = target_tokenizer.vocab_size
    target = TableNetwork(vocab_size, allowed=allowed, spread=1)
    draft_allowed = [*letters(draft_tokenizer, "bcd"), draft_tokenizer.eos_token_id]
    draft_network = TableNetwork(draft_tokenizer.vocab_size, seed=1, allowed=draft_allowed, spread=1)
    prompt_ids = letters(target_tokenizer, "abcabab")

    def program(chance: Any) -> tuple[int, ...]:
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, target_tokenizer, sampling, vocab_size)
        options = {"count": 4, "generator": chance, "length": length, "take": 2}
        return tuple(speculated(target.fresh(), target_tokenizer, draft, prompt_ids, sampling, **options))

    found = outcomes(program)
    expected = exact_outcomes(target, target_tokenizer, prompt_ids, sampling, 2)
    assert sum(expected.values()) == pytest.approx(1)
    assert {key: value for key, value in found.items() if value > 1e-12}.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_first_tokens_have_the_exact_distribution(vocabularies, monkeypatch, method, length, sampling):
    patch_draws(monkeypatch)
    draft_tokenizer = vocabularies["bpe" if method == "tokens" else "other bpe"]
    compare_exactly(vocabularies["bpe"], draft_tokenizer, method, length, sampling)


@pytest.mark.parametrize("method", ["intersection", "text"])
@pytest.mark.parametrize(("target", "draft"), [("bpe", "tokenmonster"), ("tokenmonster", "bpe")])
def test_it_is_exact_between_the_families_too(vocabularies, monkeypatch, method, target, draft):
    patch_draws(monkeypatch)
    compare_exactly(vocabularies[target], vocabularies[draft], method, 2, PENALIZED)


@pytest.mark.parametrize("method", METHODS)
def test_thousands_of_draws_follow_the_distribution(vocabularies, method):
    """Chi-square over the first two tokens, with real random numbers."""
    tokenizer = vocabularies["bpe"]
    draft_tokenizer = vocabularies["bpe" if method == "tokens" else "other bpe"]
    sampling = Sampling(temperature=1, top_p=0.97, repetition_penalty=1.2, frequency_penalty=0.3)
    target = TableNetwork(tokenizer.vocab_size, allowed=letters(tokenizer, "abcd"), spread=1)
    draft_allowed = letters(draft_tokenizer, "abce")
    draft_network = TableNetwork(draft_tokenizer.vocab_size, seed=1, allowed=draft_allowed, spread=1)
    prompt_ids, num_draws = letters(tokenizer, "abcabab"), 3000
    expected = exact_outcomes(target, tokenizer, prompt_ids, sampling, 2)
    generator, found = generator_of(3), dict.fromkeys(expected, 0)
    for _ in range(num_draws):
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, sampling, tokenizer.vocab_size)
        made = speculated(
            target.fresh(), tokenizer, draft, prompt_ids, sampling, count=4, generator=generator, length=3, take=2
        )
        found[tuple(made)] += 1
    likely = [key for key, value in expected.items() if value * num_draws >= 5]
    assert len(likely) > 10
    chi_square = sum((found[key] - expected[key] * num_draws) ** 2 / (expected[key] * num_draws) for key in likely)
    assert chi_square < len(likely) + 4 * math.sqrt(2 * len(likely))


# --- the ends ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_more_tokens_come_than_are_asked_for(vocabularies, method, count):
    tokenizer = vocabularies["bpe"]
    draft_tokenizer = vocabularies["bpe" if method == "tokens" else "other bpe"]
    target, draft_network = TableNetwork(tokenizer.vocab_size), TableNetwork(draft_tokenizer.vocab_size, seed=1)
    for prompt_ids in ([5], prompts(tokenizer, 1)[0]):
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, GREEDY, tokenizer.vocab_size)
        made = speculated(target.fresh(), tokenizer, draft, prompt_ids, GREEDY, count=count, length=7)
        assert made == plain_tokens(target, tokenizer, prompt_ids, GREEDY, count=count, seed=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("draft_context", [1, 2, 9, 12, 200])
def test_a_draft_of_another_context_stops_where_its_own_ends(vocabularies, method, draft_context):
    tokenizer = vocabularies["bpe"]
    draft_tokenizer = vocabularies["bpe" if method == "tokens" else "other bpe"]
    target = TableNetwork(tokenizer.vocab_size, context_length=24)
    draft_network = TableNetwork(draft_tokenizer.vocab_size, seed=1, context_length=draft_context)
    for prompt_ids in ([4], [5] * 8, [6] * 23, [7] * 24):
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, GREEDY, tokenizer.vocab_size)
        made = speculated(target.fresh(), tokenizer, draft, prompt_ids, GREEDY, count=99, length=3)
        assert made == plain_tokens(target, tokenizer, prompt_ids, GREEDY, count=99, seed=0)


def test_an_eos_that_is_proposed_ends_the_text(tiny_tokenizer, other_tokenizer):
    """The draft is the target: it proposes an EOS as soon as one comes, and nothing behind it."""
    target = TableNetwork(tiny_tokenizer.vocab_size)
    target._tables[0][:, tiny_tokenizer.eos_token_id] += 6
    ended = 0
    for seed, prompt_ids in enumerate(prompts(tiny_tokenizer, 20)):
        for method in ("tokens", "text"):
            draft = draft_of(method, target.fresh(), tiny_tokenizer, tiny_tokenizer, GREEDY, tiny_tokenizer.vocab_size)
            made = speculated(target.fresh(), tiny_tokenizer, draft, prompt_ids, GREEDY, count=30, length=5)
            assert made == plain_tokens(target, tiny_tokenizer, prompt_ids, GREEDY, count=30, seed=seed)
            ended += made[-1] == tiny_tokenizer.eos_token_id
    assert ended > 10


def test_each_token_is_read_once(tiny_tokenizer):
    """What both agreed on is read by each of them once; of what was rejected the target reads the place again."""
    vocab_size = tiny_tokenizer.vocab_size
    target = TableNetwork(vocab_size, context_length=200)
    draft_network, prompt_ids, stats = target.fresh(), [5] * 40, DraftStats("tokens")
    draft = draft_of("tokens", draft_network, tiny_tokenizer, tiny_tokenizer, GREEDY, vocab_size)
    made = speculated(target, tiny_tokenizer, draft, prompt_ids, GREEDY, count=60, length=4, stats=stats)
    assert target.num_read <= len(prompt_ids) + len(made)
    assert draft_network.num_read <= len(prompt_ids) + len(made)
    assert (stats.acceptance_rate, stats.num_rejected) == (1, 0)
    assert stats.tokens_per_pass == 5
    assert (stats.mean_length, stats.num_draft_steps) == (4, stats.num_proposed)


def test_the_states_history_is_left_as_it_was(tiny_tokenizer):
    vocab_size, prompt_ids = tiny_tokenizer.vocab_size, [5, 6, 7]
    state = state_of(PENALIZED, prompt_ids, tiny_tokenizer, vocab_size)
    for method in METHODS:
        network = TableNetwork(vocab_size)
        draft = draft_of(method, network, tiny_tokenizer, tiny_tokenizer, PENALIZED, vocab_size)
        before = state.penalized(np.zeros(vocab_size))
        draft.propose(prompt_ids, state, 5, generator_of(0))
        assert state.output_ids == []
        np.testing.assert_array_equal(state.penalized(np.zeros(vocab_size)), before)


def test_counts_of_nothing_are_no_division_by_zero():
    stats = DraftStats("tokens")
    assert (stats.acceptance_rate, stats.tokens_per_pass, stats.mean_length) == (0, 0, 0)
