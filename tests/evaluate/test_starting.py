"""What stands before a text, how a text and its continuation become ids, and what is too long."""

from __future__ import annotations

import pytest

from stentor.errors import UserError
from stentor.evaluate.starting import STARTS, Start, TextQuestion, score_texts
from stentor.runtime.engine import LanguageModel


class Letters:
    """A vocabulary of pairs of letters and of letters: an encoding depends on what comes before."""

    eos_token_id, bos_token_id, vocab_size = 1, 2, 384

    def encode_batch(self, texts, num_threads=None):
        return [[10 + sum(map(ord, text[i : i + 2])) % 300 for i in range(0, len(text), 2)] for text in texts]


@pytest.mark.parametrize(
    ("name", "empty", "before"), [("eos", [1], [1, 5, 6]), ("bos", [2], [2, 5, 6]), ("none", [1], [5, 6])]
)
def test_each_start_says_what_stands_before(name, empty, before):
    start = Start(name)
    tokenizer: Letters = Letters()
    assert start.before(tokenizer, []) == empty  # type: ignore[arg-type]
    assert start.before(tokenizer, [5, 6]) == before  # type: ignore[arg-type]
    assert name in STARTS


def test_an_unknown_start_is_refused():
    with pytest.raises(UserError, match="there is no start 'eso'") as caught:
        Start("eso")
    assert "did you mean 'eos'" in caught.value.fix


@pytest.mark.parametrize("name", STARTS)
def test_scores_are_those_of_the_slow_twin(model, log_probs_of, name):
    questions = [
        TextQuestion("the people", [" of", " of this", ""]),
        TextQuestion("", ["When", "Of all"]),
        TextQuestion("one  ", ["two"]),
    ]
    scores, num_cut = score_texts(model, questions, Start(name))
    tokenizer, start = model.tokenizer, Start(name)
    for question, score in zip(questions, scores, strict=True):
        context = tokenizer.encode(question.context.rstrip())
        for option, log_prob in zip(question.options, score.log_probs, strict=True):
            ids = tokenizer.encode(question.context + option)[len(context) :]
            expected = sum(log_probs_of(model, start.before(tokenizer, context), ids))
            assert log_prob == pytest.approx(expected, abs=1e-4)
    assert num_cut == 0


def test_starts_change_scores(model):
    question = TextQuestion("the people", [" of"])
    found = {name: score_texts(model, [question], Start(name))[0][0].log_probs[0] for name in STARTS}
    assert len(set(found.values())) == 3


def test_spaces_at_the_end_of_a_context_belong_to_the_continuation(model):
    apart, together = (
        score_texts(model, [TextQuestion(context, [option])], Start())[0][0]
        for context, option in (("the people ", "of"), ("the people", " of"))
    )
    assert apart == together


def test_a_long_context_loses_its_beginning_and_is_counted(model, log_probs_of):
    context = "the people of this world " * 8
    scores, num_cut = score_texts(model, [TextQuestion(context, ["were", "be"]), TextQuestion("a", ["b"])], Start())
    assert num_cut == 1
    tokenizer = model.tokenizer
    whole = tokenizer.encode(context + "were")
    context_ids = tokenizer.encode(context.rstrip())
    ids = whole[len(context_ids) :]
    longest = max(len(ids), len(tokenizer.encode(context + "be")) - len(context_ids))
    read = context_ids[-(48 + 1 - longest) :]
    assert scores[0].log_probs[0] == pytest.approx(sum(log_probs_of(model, read, ids)), abs=1e-4)


def test_a_continuation_longer_than_the_context_is_refused(model):
    with pytest.raises(UserError, match="longer than the model's context of 48"):
        score_texts(model, [TextQuestion("a", ["x y z " * 40])], Start())


def test_what_the_vocabulary_cannot_encode_is_refused(model, tiny_tokenmonster):
    poor = LanguageModel(model.network, tiny_tokenmonster)
    with pytest.raises(UserError, match=r"has no token for '.x00' after ''") as caught:
        score_texts(poor, [TextQuestion("", ["\x00"])], Start())
    assert "alphabet" in caught.value.fix


def test_questions_beyond_a_batch_keep_their_order_and_their_progress(model, monkeypatch):
    monkeypatch.setattr("stentor.evaluate.starting._AT_ONCE", 3)
    questions = [TextQuestion(word, [" the"]) for word in ("of", "and", "to", "in", "is", "it", "was")]
    seen: list[tuple[int, int]] = []
    scores, _ = score_texts(model, questions, Start(), on_progress=lambda *now: seen.append(now))
    assert [score.log_probs for score in scores] == [
        score_texts(model, [question], Start())[0][0].log_probs for question in questions
    ]
    assert seen == [(3, 7), (6, 7), (7, 7)]
