"""With a draft the text is what it is without one: exactly so, in distribution, whatever the draft."""

from __future__ import annotations

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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_first_tokens_have_the_exact_distribution(vocabularies, monkeypatch, method, length, sampling):
    """Every way in which the draws of the algorithm can come out is run: no statistics are needed."""
    tokenizer = vocabularies["bpe"]
    draft_tokenizer = vocabularies["bpe" if method == "tokens" else "other bpe"]
    allowed = [*letters(tokenizer, "abc"), tokenizer.eos_token_id]
    target = TableNetwork(tokenizer.vocab_size, allowed=allowed, spread=1)
    draft_allowed = [*letters(draft_tokenizer, "bcd"), draft_tokenizer.eos_token_id]
    draft_network = TableNetwork(draft_tokenizer.vocab_size, seed=1, allowed=draft_allowed, spread=1)
    prompt_ids = letters(tokenizer, "abcabab")
    patch_draws(monkeypatch)

    def program(chance) -> tuple[int, ...]:
        draft = draft_of(method, draft_network.fresh(), draft_tokenizer, tokenizer, sampling, tokenizer.vocab_size)
        made = speculated(
            target.fresh(), tokenizer, draft, prompt_ids, sampling, count=4, generator=chance, length=length, take=2
        )
        return tuple(made)

    found = outcomes(program)
    expected = exact_outcomes(target, tokenizer, prompt_ids, sampling, 2)
    assert sum(expected.values()) == pytest.approx(1)
    assert {key: value for key, value in found.items() if value > 1e-12}.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-10)
