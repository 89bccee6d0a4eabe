"""A draft in `generate`, `complete` and `stream`: the choice of its method, the text, and what it says of itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import transformers
from networks import Parrot, on_cpu, random_llama

from stentor.errors import UserError
from stentor.runtime.continuation import GenerationStats
from stentor.runtime.engine import LanguageModel
from stentor.runtime.sampling import Sampling
from stentor.runtime.speculative.drafting import Drafting
from stentor.runtime.speculative.vocabularies import shared_tokens
from stentor.runtime.transformers_network import TransformersNetwork
from stentor.tokenizer.bpe import train_bpe

PROMPT = "The people who were"
PROMPTS = ["", "The", PROMPT, "It is not", "caf\u00e9", "(", "3 of them", "who who who", "\n", "people people"]
ANYTHING_GOES: dict[str, Any] = {"temperature": 5, "top_p": 1, "repetition_penalty": 1}


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, max_position_embeddings=80)


@pytest.fixture(scope="module")
def other_tokenizer(prose_documents):
    return train_bpe([text.replace("th", "z") for text in prose_documents(60)], vocab_size=300)


@pytest.fixture(scope="module")
def model(config, tiny_tokenizer) -> LanguageModel:
    return LanguageModel(on_cpu(random_llama(config)), tiny_tokenizer)


@pytest.fixture(scope="module")
def drafts(model, config, tiny_tokenizer, other_tokenizer, tiny_tokenmonster) -> dict[str, LanguageModel | str]:
    small = dataclasses.replace(config, num_hidden_layers=1, max_position_embeddings=50, vocab_size=400)
    network = on_cpu(random_llama(small, seed=3), dtype="int8")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=60)
    ).eval()
    return {
        "itself": model,
        "smaller": LanguageModel(network, tiny_tokenizer),
        "other bpe": LanguageModel(network, other_tokenizer),
        "tokenmonster": LanguageModel(network, tiny_tokenmonster),
        "transformers": LanguageModel(TransformersNetwork(theirs), tiny_tokenizer),
        "lookup": "lookup",
    }


CASES = [
    ("itself", "tokens"),
    ("itself", "text"),
    ("smaller", "tokens"),
    ("smaller", "text"),
    ("transformers", "tokens"),
    ("other bpe", "intersection"),
    ("other bpe", "text"),
    ("tokenmonster", "intersection"),
    ("tokenmonster", "text"),
    ("lookup", "lookup"),
]
each_case = pytest.mark.parametrize(("name", "method"), CASES, ids=[" by ".join(case) for case in CASES])


@each_case
def test_greedy_text_is_the_same(model, drafts, name, method):
    drafting = Drafting(drafts[name], method=method)
    for prompt in PROMPTS:
        for penalty in (1.0, 1.3):
            options = {"max_new_tokens": 30, "temperature": 0, "repetition_penalty": penalty, "ignore_eos": True}
            assert model.generate(prompt, draft=drafting, **options) == model.generate(prompt, **options)


@pytest.mark.slow
@each_case
def test_greedy_text_is_the_same_on_a_thousand_prompts(model, drafts, prose_documents, name, method):
    drafting = Drafting(drafts[name], method=method)
    for text in prose_documents(1000):
        options = {"max_new_tokens": 40, "temperature": 0, "repetition_penalty": 1.1}
        prompt = text[: 10 + len(text) % 60]
        assert model.generate(prompt, draft=drafting, **options) == model.generate(prompt, **options)


@pytest.mark.parametrize("name", ["other bpe", "tokenmonster", "lookup"])
def test_text_and_lookup_keep_the_text_of_every_seed(model, drafts, name):
    drafting = Drafting(drafts[name], method="lookup" if name == "lookup" else "text")
    for seed in range(6):
        options = {"max_new_tokens": 40, "seed": seed, "temperature": 0.7, "top_p": 0.9}
        assert model.generate(PROMPT, draft=drafting, **options) == model.generate(PROMPT, **options)


def test_the_model_as_its_own_draft_is_always_right(model):
    stats = GenerationStats()
    pieces = list(model.stream(PROMPT, draft=Drafting(model, num_tokens=4), stats=stats, max_new_tokens=41, seed=5))
    assert "".join(pieces)
    assert all(pieces)
    assert stats.draft is not None
    assert (stats.draft.method, stats.draft.acceptance_rate) == ("tokens", 1)
    if stats.num_new_tokens == 41:
        assert stats.draft.num_passes == 9  # eight of five tokens, and the last one
    assert stats.finish_reason in ("max_new_tokens", "eos")


def test_a_model_or_a_word_stands_for_its_drafting(model, drafts):
    options = {"max_new_tokens": 20, "temperature": 0}
    for draft, method in ((drafts["smaller"], "tokens"), ("lookup", "lookup")):
        stats = GenerationStats()
        "".join(model.stream(PROMPT, draft=draft, stats=stats, **options))
        assert stats.draft is not None
        assert stats.draft.method == method
    stats = GenerationStats()
    "".join(model.stream(PROMPT, stats=stats, **options))
    assert stats.draft is None


@each_case
def test_several_continuations_each_have_their_own(model, drafts, name, method):
    options = {"n": 3, "max_new_tokens": 20, "logprobs": 2, "temperature": 0, "stop": ["e"]}
    for ours, plain in zip(
        model.complete(PROMPT, draft=Drafting(drafts[name], method=method), **options),
        model.complete(PROMPT, **options),
        strict=True,
    ):
        assert (ours.text, ours.token_ids, ours.finish_reason) == (plain.text, plain.token_ids, plain.finish_reason)
        assert ours.log_probs == plain.log_probs
        assert ours.top_alternatives == plain.top_alternatives
        assert ours.stats.draft is not None
        assert ours.stats.draft.method == method


@pytest.mark.parametrize("name", ["smaller", "other bpe", "lookup"])
def test_streams_that_run_side_by_side_do_not_meet(model, drafts, name):
    options = {"max_new_tokens": 25, "temperature": 0, "ignore_eos": True}
    drafting = Drafting(drafts[name])
    first, second = model.stream("The", draft=drafting, **options), model.stream(PROMPT, draft=drafting, **options)
    texts = ["", ""]
    for index, stream in [(0, first), (1, second)] * 30:
        texts[index] += next(stream, "")
    assert texts == [model.generate(prompt, **options) for prompt in ("The", PROMPT)]


@pytest.mark.parametrize("name", ["smaller", "other bpe", "tokenmonster", "transformers", "lookup"])
def test_the_text_goes_on_beyond_the_drafts_context(model, drafts, name):
    options = {"max_new_tokens": 999, "temperature": 0, "ignore_eos": True}
    stats = GenerationStats()
    text = "".join(model.stream(PROMPT, draft=drafts[name], stats=stats, **options))
    assert text == model.generate(PROMPT, **options)
    assert stats.finish_reason == "context"
    assert stats.num_prompt_tokens + stats.num_new_tokens == 81


def test_a_fixed_length_gives_the_same_draw_again(model, drafts):
    for name in ("smaller", "other bpe"):
        options = {"max_new_tokens": 30, "seed": 3, **ANYTHING_GOES}
        texts = {model.generate(PROMPT, draft=Drafting(drafts[name], num_tokens=3), **options) for _ in range(3)}
        assert len(texts) == 1


def test_an_eos_and_a_stop_string_end_the_text_in_the_middle_of_a_round(model, config, tiny_tokenizer):
    eos = LanguageModel(Parrot(config, tiny_tokenizer.eos_token_id), tiny_tokenizer)
    stats = GenerationStats()
    drafting = Drafting(eos, num_tokens=6)
    assert "".join(eos.stream(PROMPT, draft=drafting, stats=stats, min_new_tokens=2, **ANYTHING_GOES)) != ""
    assert stats.finish_reason == "eos"
    (the,) = tiny_tokenizer.encode(" the")
    parrot, stats = LanguageModel(Parrot(config, the), tiny_tokenizer), GenerationStats()
    drafting = Drafting(parrot, num_tokens=6)
    pieces = parrot.stream(PROMPT, draft=drafting, temperature=0, repetition_penalty=1, stop=["the th"], stats=stats)
    assert "".join(pieces) == " "
    assert stats.finish_reason == "stop"


def test_predictions_that_are_no_numbers_are_refused(model, config, tiny_tokenizer):
    broken_network = Parrot(config, 5)
    broken_network._logits_V = np.full(config.vocab_size, np.nan, np.float32)
    broken = LanguageModel(broken_network, tiny_tokenizer)
    with pytest.raises(UserError, match="the model's predictions are not numbers"):
        broken.generate(PROMPT, draft=model)
    with pytest.raises(UserError, match="the draft's predictions are not numbers"):
        model.generate(PROMPT, draft=Drafting(broken, num_tokens=2), max_new_tokens=9, ignore_eos=True)


# --- the choice ---


DRAWN, GREEDY = Sampling(), Sampling(temperature=0)


def test_one_vocabulary_is_drafted_by_tokens(drafts, tiny_tokenizer):
    for settings in (DRAWN, GREEDY):
        choice = Drafting(drafts["smaller"]).choose(tiny_tokenizer, settings)
        assert choice == ("tokens", "draft and model have the same vocabulary")
        assert Drafting(drafts["lookup"]).choose(tiny_tokenizer, settings).method == "lookup"


@pytest.mark.parametrize("name", ["other bpe", "tokenmonster"])
def test_of_two_vocabularies_what_is_shared_is_drawn_by(drafts, tiny_tokenizer, name):
    draft = drafts[name].tokenizer
    num_shared = shared_tokens(tiny_tokenizer, draft).num_tokens
    said = f"the model knows {num_shared} of the draft's {draft.vocab_size} tokens"
    assert Drafting(drafts[name]).choose(tiny_tokenizer, DRAWN) == ("intersection", said)
    assert Drafting(drafts[name], method="text").choose(tiny_tokenizer, DRAWN) == ("text", "asked for")
    assert Drafting(drafts[name], method="intersection").choose(tiny_tokenizer, GREEDY) == ("intersection", "asked for")


def test_at_temperature_0_the_text_is_guessed_unless_nearly_all_is_shared(config, tiny_tokenizer, prose_documents):
    """A vocabulary that has learnt less from the same texts is a part of the other."""
    fewer = train_bpe(prose_documents(120), vocab_size=290)
    more = train_bpe(prose_documents(120), vocab_size=440)
    for draft, method in ((fewer, "intersection"), (more, "text")):
        drafting = Drafting(LanguageModel(Parrot(dataclasses.replace(config, vocab_size=448), 5), draft))
        assert drafting.choose(tiny_tokenizer, GREEDY).method == method
        assert drafting.choose(tiny_tokenizer, DRAWN).method == "intersection"
        target = LanguageModel(Parrot(config, 5), tiny_tokenizer)
        stats = GenerationStats()
        text = "".join(target.stream("The", draft=drafting, temperature=0, stats=stats))
        assert text == target.generate("The", temperature=0)
        assert stats.draft is not None
        assert stats.draft.method == method


@pytest.mark.parametrize(
    ("draft", "options", "said"),
    [
        ("smaller", {"method": "tokns"}, "there is no draft method 'tokns'"),
        ("smaller", {"method": "lookup"}, "the method lookup does not go with a model"),
        ("lookup", {"method": "text"}, "the method text does not go with a lookup"),
        ("smaller", {"num_tokens": 0}, "0 tokens cannot be drafted at a time"),
        ("smaller", {"num_tokens": 17}, "17 tokens cannot be drafted at a time"),
    ],
)
def test_what_does_not_go_together_is_refused(drafts, draft, options, said):
    with pytest.raises(UserError, match=said):
        Drafting(drafts[draft], **options)


def test_refusals_come_before_the_first_piece(model, drafts):
    with pytest.raises(UserError, match="the method tokens needs one vocabulary: the model knows"):
        model.stream(PROMPT, draft=Drafting(drafts["other bpe"], method="tokens"))
    with pytest.raises(UserError, match="the draft is 'runs/tiny'"):
        model.stream(PROMPT, draft="runs/tiny")
