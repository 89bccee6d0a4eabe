"""Generation and scoring: equal to transformers' greedy decoding, to a pass without a cache, and well behaved."""

from __future__ import annotations

import gc
import math
import threading
from itertools import zip_longest
from typing import Any

import pytest
import torch
import transformers
from networks import Parrot, on_cpu, random_llama

from stentor.artifacts import staged_directory
from stentor.errors import UserError
from stentor.model.folder import write_model_folder
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.runtime import engine
from stentor.runtime.continuation import GenerationStats
from stentor.runtime.engine import LanguageModel, load
from stentor.runtime.torch_network import TorchNetwork

PROMPT = "The people who were"
ANYTHING_GOES = {"temperature": 50, "top_p": 1, "repetition_penalty": 1}


@pytest.fixture(scope="module")
def network(tiny_config) -> Llama:
    return random_llama(tiny_config)


@pytest.fixture(scope="module", params=["cpu", "torch"])
def model(request, network, tiny_tokenizer) -> LanguageModel:
    made = on_cpu(network) if request.param == "cpu" else TorchNetwork(network)
    return LanguageModel(made, tiny_tokenizer)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory, network, tiny_tokenizer):
    path = tmp_path_factory.mktemp("engine") / "model"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(
            staging, network.config, to_hugging_face(network.config, network.state_dict()), tiny_tokenizer
        )
    return path


def test_greedy_text_equals_transformers(model, model_dir, tiny_tokenizer):
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(model_dir)
    ids = torch.tensor([tiny_tokenizer.encode(PROMPT)])
    outside = list(range(tiny_tokenizer.vocab_size, theirs.config.vocab_size))
    with torch.no_grad():
        new_ids = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=15,
            do_sample=False,
            temperature=None,
            top_p=None,
            repetition_penalty=1.15,
            suppress_tokens=outside,
        )[0, ids.shape[1] :]
    assert model.generate(PROMPT, max_new_tokens=15, temperature=0) == tiny_tokenizer.decode(new_ids.tolist())


def test_load_reads_the_folder_it_is_given(model, model_dir):
    assert load(model_dir, dtype="float32").generate(PROMPT, seed=4) == model.generate(PROMPT, seed=4)


def test_a_stream_joins_to_the_text_and_counts_itself(model):
    stats = GenerationStats()
    pieces = list(model.stream(PROMPT, max_new_tokens=12, seed=3, stats=stats))
    assert "".join(pieces) == model.generate(PROMPT, max_new_tokens=12, seed=3)
    assert stats.num_new_tokens == 12
    assert stats.finish_reason == "max_new_tokens"
    assert stats.num_prompt_tokens == len(model.tokenizer.encode(PROMPT))
    assert stats.prefill_seconds > 0
    assert stats.tokens_per_second > 0


def test_no_piece_ever_ends_in_half_a_character(model):
    """A random model emits bytes of broken characters all the time."""
    for seed in range(5):
        pieces = list(model.stream("", max_new_tokens=31, seed=seed, temperature=3, top_p=1, repetition_penalty=1))
        assert all(piece.encode() for piece in pieces)
        assert "".join(pieces).count("\N{REPLACEMENT CHARACTER}") > 0


def test_the_seed_decides(model):
    texts = {model.generate(PROMPT, seed=seed, temperature=2, top_p=1) for seed in range(4)}
    assert len(texts) == 4


def test_a_stop_string_ends_the_text_before_it(model):
    text = model.generate(PROMPT, max_new_tokens=20, seed=5)
    stop = text[4:7]
    stats = GenerationStats()
    cut = "".join(model.stream(PROMPT, max_new_tokens=20, seed=5, stop=[stop], stats=stats))
    assert cut == text[: text.index(stop)]
    assert stats.finish_reason == "stop"


def test_an_eos_ends_the_text(tiny_config, tiny_tokenizer):
    stats, model = GenerationStats(), LanguageModel(Parrot(tiny_config, tiny_tokenizer.eos_token_id), tiny_tokenizer)
    assert "".join(model.stream(PROMPT, stats=stats)) == ""
    assert (stats.finish_reason, stats.num_new_tokens) == ("eos", 1)


def test_the_end_of_the_context_ends_the_text(model, tiny_config):
    stats = GenerationStats()
    list(model.stream(PROMPT, max_new_tokens=1000, stats=stats, temperature=2, top_p=1))
    assert stats.finish_reason in ("context", "eos")
    if stats.finish_reason == "context":
        assert stats.num_prompt_tokens + stats.num_new_tokens == tiny_config.max_position_embeddings + 1


def prompt_of(model: LanguageModel, num_tokens: int) -> str:
    text = model.tokenizer.decode(model.tokenizer.encode("the people who were there " * 40)[:num_tokens])
    assert len(model.tokenizer.encode(text)) == num_tokens
    return text


def test_a_prompt_as_long_as_the_context_gets_one_token(model, tiny_config):
    stats = GenerationStats()
    list(model.stream(prompt_of(model, tiny_config.max_position_embeddings), stats=stats))
    assert stats.num_new_tokens == 1


def test_a_longer_prompt_is_refused_with_both_numbers(model):
    with pytest.raises(UserError, match="the prompt has 33 tokens, the model's context holds 32"):
        model.generate(prompt_of(model, 33))


def test_refusals_come_before_the_first_piece(model):
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        model.stream(PROMPT, max_new_tokens=0)
    with pytest.raises(UserError, match="temperature"):
        model.stream(PROMPT, temperature=-1)


def test_an_empty_prompt_starts_a_document(model):
    stats = GenerationStats()
    list(model.stream("", stats=stats))
    assert stats.num_prompt_tokens == 1


def test_padding_rows_are_never_drawn(model, tiny_tokenizer):
    ids = [
        token_id
        for seed in range(3)
        for completion in model.complete("", n=2, max_new_tokens=31, seed=seed, **ANYTHING_GOES)
        for token_id in completion.token_ids
    ]
    assert max(ids) < tiny_tokenizer.vocab_size


@pytest.mark.parametrize("text", ["", "Who", PROMPT * 9])
def test_scores_equal_one_pass_per_window(model, network, text):
    scores = model.score(text)
    assert scores.token_ids == model.tokenizer.encode(text)
    assert len(scores.log_probs) == len(scores.token_ids)
    stream = [model.tokenizer.eos_token_id, *scores.token_ids]
    for start in range(0, len(scores.token_ids), 32):
        inputs, targets = stream[start : start + 32], scores.token_ids[start : start + 32]
        inputs = inputs[: len(targets)]
        with torch.no_grad():
            log_probs = network(torch.tensor([inputs]))[0].double().log_softmax(-1)
        for place, target in enumerate(targets):
            assert scores.log_probs[start + place] == pytest.approx(float(log_probs[place, target]), abs=1e-5)
    assert all(value <= 0 and math.isfinite(value) for value in scores.log_probs)


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_predictions_that_are_no_numbers_are_refused(tiny_config, tiny_tokenizer, temperature):
    broken = Llama(tiny_config).eval()
    initialize(broken, seed=2)
    with torch.no_grad():
        broken.final_norm_D.fill_(float("inf"))
    with pytest.raises(UserError, match="predictions are not numbers"):
        LanguageModel(on_cpu(broken), tiny_tokenizer).generate(PROMPT, temperature=temperature)


# --- a TokenMonster vocabulary ---


@pytest.fixture(scope="module")
def monster(network, tiny_tokenmonster) -> LanguageModel:
    return LanguageModel(on_cpu(network), tiny_tokenmonster)


@pytest.mark.parametrize("prompt", ["The people who", "THE PEOPLE", "it is not", "", "caf\u00e9", "\x00", "(", "3"])
@pytest.mark.parametrize("seed", range(4))
def test_the_continuation_is_what_it_adds_to_the_prompt(monster, prompt, seed):
    prompt_ids = monster.tokenizer.encode(prompt) or [monster.tokenizer.eos_token_id]
    for completion in monster.complete(prompt, n=2, max_new_tokens=20, seed=seed, **ANYTHING_GOES):
        whole = monster.tokenizer.decode([*prompt_ids, *completion.token_ids])
        assert monster.tokenizer.decode(prompt_ids) + completion.text == whole


def test_stop_strings_end_capcoded_text(monster):
    options = {"max_new_tokens": 25, "seed": 3, "temperature": 9, "top_p": 1, "repetition_penalty": 1}
    whole = monster.generate("The people", **options)
    stop = whole[8:11]
    assert monster.generate("The people", stop=[stop], **options) == whole[: whole.index(stop)]


def test_a_folder_with_its_vocabulary_is_loaded(network, tiny_tokenmonster, monster, tmp_path):
    with staged_directory(tmp_path / "model", kind="model") as staging:
        weights = to_hugging_face(network.config, network.state_dict())
        write_model_folder(staging, network.config, weights, tiny_tokenmonster)
    loaded = load(tmp_path / "model", dtype="float32")
    assert loaded.tokenizer.sha256 == tiny_tokenmonster.sha256
    assert loaded.generate("The people", seed=1) == monster.generate("The people", seed=1)
    assert loaded.score("caf\u00e9").token_ids == tiny_tokenmonster.encode("cafe\u0301")


# --- several continuations ---


@pytest.fixture(params=["bpe", "tokenmonster"])
def either(request, network) -> LanguageModel:
    tokenizer = {"bpe": "tiny_tokenizer", "tokenmonster": "tiny_tokenmonster"}[request.param]
    return LanguageModel(on_cpu(network), request.getfixturevalue(tokenizer))


def test_continuations_do_not_depend_on_how_many_there_are(either):
    options = {"max_new_tokens": 9, "seed": 6, **ANYTHING_GOES}
    several = either.complete(PROMPT, n=3, **options)
    assert len({completion.text for completion in several}) == 3
    assert several[0].text == either.generate(PROMPT, **options)
    assert [c.token_ids for c in either.complete(PROMPT, n=2, **options)] == [c.token_ids for c in several[:2]]
    assert all(completion.stats.num_new_tokens == len(completion.token_ids) for completion in several)


def test_stop_strings_and_broken_characters_in_each_continuation(either):
    """A stop string is searched in the text, wherever the borders of tokens are, and never shown in part."""
    options = {"n": 4, "max_new_tokens": 25, "seed": 3, **ANYTHING_GOES}
    wholes = either.complete("The people", **options)
    assert any("\N{REPLACEMENT CHARACTER}" in whole.text for whole in wholes)
    stops = [whole.text[7 + index : 10 + index] for index, whole in enumerate(wholes)]
    for whole, cut in zip(wholes, either.complete("The people", stop=stops, **options), strict=True):
        assert cut.text == whole.text[: min(whole.text.index(stop) for stop in stops if stop in whole.text)]
        assert cut.finish_reason == "stop"
        assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]


def test_log_probs_are_those_of_the_model_whatever_the_settings(model, network):
    prompt_ids = model.tokenizer.encode(PROMPT)
    options = {"max_new_tokens": 8, "temperature": 3, "presence_penalty": 2, "logit_bias": {5: 9.0}, "logprobs": 4}
    for completion in model.complete(PROMPT, n=2, top_p=1, **options):
        with torch.no_grad():
            logits_BTV = network(torch.tensor([[*prompt_ids, *completion.token_ids]]))[
                ..., : model.tokenizer.vocab_size
            ]
        log_probs_TV = logits_BTV[0].double().log_softmax(-1)[len(prompt_ids) - 1 :]
        for place, token_id in enumerate(completion.token_ids):
            assert completion.log_probs[place] == pytest.approx(float(log_probs_TV[place, token_id]), abs=1e-5)
            expected = log_probs_TV[place].topk(4)
            assert [token.token_id for token in completion.top_alternatives[place]] == expected.indices.tolist()
            ours = [token.log_prob for token in completion.top_alternatives[place]]
            assert ours == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_log_probs_are_left_out_unless_asked_for(model):
    (completion,) = model.complete(PROMPT, max_new_tokens=3)
    assert (completion.log_probs, completion.top_alternatives) == (None, None)
    (completion,) = model.complete(PROMPT, max_new_tokens=3, logprobs=0)
    assert len(completion.log_probs) == len(completion.top_alternatives) == 3


def test_an_eos_that_ends_the_text_is_among_the_tokens(tiny_config, tiny_tokenizer):
    eos = tiny_tokenizer.eos_token_id
    model = LanguageModel(Parrot(tiny_config, eos), tiny_tokenizer)
    (completion,) = model.complete(PROMPT, min_new_tokens=3, max_new_tokens=9, logprobs=1)
    assert (completion.finish_reason, len(completion.token_ids), completion.token_ids[-1]) == ("eos", 4, eos)
    assert completion.top_alternatives
    assert completion.top_alternatives[-1][0].token_id == eos
    (completion,) = model.complete(PROMPT, ignore_eos=True, max_new_tokens=9)
    assert (completion.finish_reason, eos in completion.token_ids) == ("max_new_tokens", False)


def test_a_bias_decides(model):
    (completion,) = model.complete(PROMPT, max_new_tokens=4, logit_bias={7: 1e4}, repetition_penalty=1)
    assert completion.token_ids == [7] * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n is 0"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens is 9, more than max_new_tokens, which is 8"),
        ({"logit_bias": {320: 1.0}}, "the token id 320 is outside the vocabulary of 320 tokens"),
    ],
)
def test_what_cannot_be_done_is_refused(model, options, said):
    with pytest.raises(UserError, match=said):
        model.complete(PROMPT, **options)


def test_more_continuations_than_are_made_together(tiny_config, network, tiny_tokenizer, monkeypatch):
    model = LanguageModel(on_cpu(network), tiny_tokenizer)
    options: dict[str, Any] = {"max_new_tokens": 5, **ANYTHING_GOES}
    whole = [completion.text for completion in model.complete(PROMPT, n=7, **options)]
    monkeypatch.setattr(engine, "MADE_TOGETHER", 3)
    assert [completion.text for completion in model.complete(PROMPT, n=7, **options)] == whole


def test_a_prompt_is_read_once_for_all_continuations(tiny_config, tiny_tokenizer):
    class Counting(Parrot):
        num_read, steps = 0, []

        def extend(self, token_ids, start, **options):
            self.num_read += len(token_ids)
            return super().extend(token_ids, start, **options)

        def extend_each(self, token_ids, positions, sequences):
            self.steps.append((positions, sequences))
            return super().extend_each(token_ids, positions, sequences)

    network, num_prompt_tokens = Counting(tiny_config, 7), len(tiny_tokenizer.encode(PROMPT))
    LanguageModel(network, tiny_tokenizer).complete(PROMPT, n=4, max_new_tokens=3)
    assert network.num_read == num_prompt_tokens
    assert network.steps == [([num_prompt_tokens + step] * 4, [0, 1, 2, 3]) for step in range(2)]


def test_texts_may_be_made_in_turns(model):
    """Each text has a cache of its own, so one that is read now and then is not disturbed by others."""
    alone = [list(model.stream(prompt, seed=5, max_new_tokens=12)) for prompt in (PROMPT, "When it")]
    first, second = (model.stream(prompt, seed=5, max_new_tokens=12) for prompt in (PROMPT, "When it"))
    turns = list(zip_longest(first, second))
    assert [piece for piece, _ in turns if piece] == alone[0]
    assert [piece for _, piece in turns if piece] == alone[1]


def test_a_text_left_in_the_middle_leaves_no_thread(network, tiny_tokenizer):
    model, before = LanguageModel(on_cpu(network, num_threads=2), tiny_tokenizer), set(threading.enumerate())
    pieces = model.stream(PROMPT, ignore_eos=True)
    next(pieces)
    workers = set(threading.enumerate()) - before
    del pieces
    gc.collect()
    assert workers
    assert not any(worker.is_alive() for worker in workers)


def test_a_stop_string_across_the_borders_of_tokens(tiny_config, tiny_tokenizer):
    """The text is `aaaa...`, a token each; the stop string begins within one token and ends within another."""
    (token_id,) = tiny_tokenizer.encode("a")
    model = LanguageModel(Parrot(tiny_config, token_id), tiny_tokenizer)
    stats = GenerationStats()
    assert "".join(model.stream("b", stop=["aaa"], stats=stats, repetition_penalty=1)) == ""
    assert (stats.num_new_tokens, stats.finish_reason) == (3, "stop")


def test_bytes_of_a_broken_character_are_shown_when_nothing_can_mend_it(tiny_config, tiny_tokenizer):
    """The first byte of an emoji: nothing is shown until another byte, or the end, says that it stays alone."""
    lead = next(i for i in range(tiny_tokenizer.vocab_size) if tiny_tokenizer.token_bytes(i) == b"\xf0")
    model = LanguageModel(Parrot(tiny_config, lead), tiny_tokenizer)
    assert list(model.stream("b", max_new_tokens=1, repetition_penalty=1)) == ["\N{REPLACEMENT CHARACTER}"]
    assert model.generate("b", max_new_tokens=3, repetition_penalty=1) == "\N{REPLACEMENT CHARACTER}" * 3
