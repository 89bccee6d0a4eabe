"""Texts that are drawn where their logits are: those that are drawn here, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_llama

from stentor.errors import UserError
from stentor.runtime.continuation import Request
from stentor.runtime.engine import LanguageModel
from stentor.runtime.network import NO_NUMBERS, CachedNetwork, DrawingNetwork
from stentor.runtime.sampling import Sampling, generator_of
from stentor.runtime.torch_network import TorchNetwork

PROMPT = "The people who were"
SETTINGS = {
    "the defaults": {},
    "greedy": {"temperature": 0, "repetition_penalty": 1.0},
    "every setting": {
        "top_k": 50,
        "top_p": 0.9,
        "min_p": 0.01,
        "typical_p": 0.95,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.1,
        "logit_bias": {7: 1.5},
        "min_new_tokens": 5,
    },
}


@pytest.fixture(scope="module")
def network(tiny_config) -> TorchNetwork:
    return TorchNetwork(random_llama(tiny_config, factor=4))


@pytest.fixture(scope="module")
def model(network, tiny_tokenizer) -> LanguageModel:
    return LanguageModel(network, tiny_tokenizer)


class Undrawing:
    """The same network without the method that draws."""

    def __init__(self, network: CachedNetwork) -> None:
        self.config, self._network = network.config, network
        self.extend, self.extend_each, self.share = network.extend, network.extend_each, network.share
        self.window_nats = network.window_nats

    def fresh(self, num_sequences: int = 1) -> Undrawing:
        return Undrawing(self._network.fresh(num_sequences))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("n", [1, 3])
def test_the_same_tokens_as_drawn_from_fetched_logits(model, network, tiny_tokenizer, settings, n):
    other = LanguageModel(Undrawing(network), tiny_tokenizer)
    assert isinstance(model.network, DrawingNetwork)
    assert not isinstance(other.network, DrawingNetwork)
    options = {"n": n, "seed": 5, "max_new_tokens": 20, **settings}
    mine, theirs = model.complete(PROMPT, **options), other.complete(PROMPT, **options)
    assert [made.token_ids for made in mine] == [made.token_ids for made in theirs]
    assert [made.text for made in mine] == [made.text for made in theirs]
    assert [made.finish_reason for made in mine] == [made.finish_reason for made in theirs]


def test_logprobs_are_of_the_same_tokens(model):
    plain, told = (model.complete(PROMPT, n=2, max_new_tokens=9, logprobs=each) for each in (None, 2))
    assert [made.token_ids for made in plain] == [made.token_ids for made in told]
    assert told[0].log_probs is not None
    assert plain[0].log_probs is None


def test_a_text_ends_where_the_context_does(model, tiny_config):
    options = {"max_new_tokens": 500, "ignore_eos": True}
    for completion in model.complete(PROMPT, n=2, **options):
        assert completion.finish_reason == "context"
        prompt_tokens = completion.stats.num_prompt_tokens
        assert prompt_tokens + completion.stats.num_new_tokens == tiny_config.max_position_embeddings + 1


def test_a_prompt_that_fills_the_context_gets_one_token(model, tiny_config, tiny_tokenizer):
    network = model.network
    ids = np.random.default_rng(0).integers(0, 300, tiny_config.max_position_embeddings).tolist()
    request = Request(tiny_config, tiny_tokenizer, ids, 9, (), Sampling(temperature=0, repetition_penalty=1.0))
    (found,) = network.fresh().drawn(request, [generator_of(0)])
    assert found == [int(network.fresh().extend(ids, 0)[0, : tiny_tokenizer.vocab_size].argmax())]


def test_a_stop_string_ends_one_text_and_the_others_go_on(model):
    plain = model.complete(PROMPT, n=3, max_new_tokens=12, ignore_eos=True, seed=2)
    stop = plain[1].text[4:9]
    stopped = model.complete(PROMPT, n=3, max_new_tokens=12, ignore_eos=True, seed=2, stop=[stop])
    for before, after in zip(plain, stopped, strict=True):
        assert after.text == before.text.partition(stop)[0]
    assert stopped[1].finish_reason == "stop"


def test_pieces_stream_as_they_are_made(model):
    pieces = model.stream(PROMPT, max_new_tokens=12, ignore_eos=True, seed=4)
    first = next(pieces)
    assert "".join([first, *pieces]) == model.generate(PROMPT, max_new_tokens=12, ignore_eos=True, seed=4)


def test_weights_out_of_range_are_said(tiny_config, tiny_tokenizer):
    broken = random_llama(tiny_config)
    with torch.no_grad():
        broken.final_norm_D.fill_(torch.nan)
    with pytest.raises(UserError, match="predictions are not numbers"):
        LanguageModel(TorchNetwork(broken), tiny_tokenizer).generate(PROMPT)


def test_settings_that_leave_no_token_are_said(model, tiny_tokenizer):
    forbidden = dict.fromkeys(range(tiny_tokenizer.vocab_size), -np.inf)
    with pytest.raises(UserError, match="every token is forbidden"):
        model.generate(PROMPT, logit_bias=forbidden)


def test_what_becomes_of_a_text_that_has_ended_does_not_matter(model, network, tiny_tokenizer):
    """Its tokens are drawn on, and may be anything."""
    plain = model.complete(PROMPT, n=2, max_new_tokens=8, ignore_eos=True, seed=1)

    class Spoiled(TorchNetwork):
        def fresh(self, num_sequences=1):
            return Spoiled(network._model, num_sequences=num_sequences, rooms=self._rooms)

        def drawn(self, request, generators):
            for step, ids in enumerate(super().drawn(request, generators)):
                yield [NO_NUMBERS if step > 5 else ids[0], ids[1]]

    spoiled = LanguageModel(Spoiled(network._model), tiny_tokenizer)
    options = {"n": 2, "max_new_tokens": 8, "ignore_eos": True, "seed": 1}
    with pytest.raises(UserError, match="predictions are not numbers"):
        spoiled.complete(PROMPT, **options)
    found = spoiled.complete(PROMPT, stop=[plain[0].text[:2]], **options)
    assert found[0].finish_reason == "stop"


def test_ids_beyond_the_vocabulary_are_refused(network, tiny_config, tiny_tokenizer):
    request = Request(tiny_config, tiny_tokenizer, [1, 400], 3, (), Sampling())
    with pytest.raises(UserError, match="the token id 400 is outside"):
        network.fresh().drawn(request, [generator_of(0)])
