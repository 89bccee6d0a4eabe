"""LAMBADA: last words, greedy, and their perplexity."""

from __future__ import annotations

import json
import math

import pytest

from stentor.errors import UserError
from stentor.evaluate.lambada import Passage, lambada, read_passages

PASSAGES = [Passage("the people of", "this"), Passage("when he was", " one"), Passage("so she ", "said")]


def words(model, passage: Passage) -> tuple[list[int], list[int]]:
    context = model.tokenizer.encode(passage.context.rstrip())
    whole = model.tokenizer.encode(f"{passage.context.rstrip()} {passage.continuation.strip()}")
    return [model.tokenizer.eos_token_id, *context], whole[len(context) :]


def test_perplexity_is_that_of_the_slow_twin(model, log_probs_of):
    result = lambada(model, PASSAGES)
    nats = [-sum(log_probs_of(model, *words(model, passage))) for passage in PASSAGES]
    assert result.perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-3)


def test_a_word_is_right_where_it_is_the_greedy_one(model):
    context = "the people of"
    ids = [model.tokenizer.eos_token_id, *model.tokenizer.encode(context)]
    likeliest = int(model.network.fresh().extend(ids, 0)[0, : model.tokenizer.vocab_size].argmax())
    said = model.tokenizer.decode([likeliest])
    found = lambada(model, [Passage(context, said)])
    whole = model.tokenizer.encode(context + (said if said.startswith(" ") else f" {said}"))
    assert found.accuracy.accuracy == float(whole == [*ids[1:], likeliest])
    assert 0 <= lambada(model, PASSAGES).accuracy.accuracy <= 1


def test_the_numbers_have_documented_names(model):
    value = json.loads(json.dumps(lambada(model, PASSAGES).to_dict()))
    assert value.keys() == {
        *(
            "accuracy",
            "accuracy_low",
            "accuracy_high",
            "interval",
            "word_perplexity",
            "num_passages",
            "num_cut",
            "start",
        )
    }
    assert value["num_passages"] == 3


def test_long_passages_are_cut_and_counted(model):
    assert lambada(model, [*PASSAGES, Passage("the people of this world " * 9, "were")]).num_cut == 1


def test_files(write_lines):
    path = write_lines("l.jsonl", {"context": "a b", "continuation": "c"})
    assert list(read_passages(path)) == [Passage("a b", "c")]
    with pytest.raises(UserError, match=r'line 1 has no field "continuation" .fields: context, text.'):
        list(read_passages(write_lines("l.jsonl", {"context": "a", "text": "b"})))


def test_no_passage_is_refused(model):
    with pytest.raises(UserError, match="nothing to evaluate"):
        lambada(model, [])
