"""Multiple choice: the likeliest answer, whole and per byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stentor.errors import UserError
from stentor.evaluate.choice import ChoiceQuestion, joined, multiple_choice, read_questions
from stentor.evaluate.starting import Start

QUESTIONS = [
    ChoiceQuestion("the people of", ["this world", "it", "caf\u00e9 \u4e2d"], 0),
    ChoiceQuestion("when he", [" was one", "she said so"], 1),
    ChoiceQuestion("then ", ["they", "we", "all of them", "how"], 3),
    ChoiceQuestion("it was\n", ["for", "as"], 1),
]


def slow(model, log_probs_of, *, per_byte: bool) -> float:
    tokenizer, right = model.tokenizer, 0
    for question in QUESTIONS:
        scores = []
        for choice in question.choices:
            context = tokenizer.encode(question.query.rstrip())
            whole = tokenizer.encode(question.query + joined(question.query, choice))
            score = sum(log_probs_of(model, [tokenizer.eos_token_id, *context], whole[len(context) :]))
            scores.append(score / (len(choice.encode()) if per_byte else 1))
        right += int(np.argmax(scores)) == question.gold
    return right / len(QUESTIONS)


def test_accuracies_are_those_of_the_slow_twin(model, log_probs_of):
    result = multiple_choice(model, QUESTIONS)
    assert result.accuracy.accuracy == slow(model, log_probs_of, per_byte=False)
    assert result.accuracy_per_byte.accuracy == slow(model, log_probs_of, per_byte=True)
    assert result.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4 + 1 / 2) / 4)


def test_a_right_gold_is_right(model):
    def asked(gold: int) -> ChoiceQuestion:
        return ChoiceQuestion("the people", ["of", "this"], gold)

    found = [multiple_choice(model, [asked(gold)]).accuracy.accuracy for gold in (0, 1)]
    assert sorted(found) == [0, 1]


def test_of_equal_answers_the_first_is_taken(model):
    assert multiple_choice(model, [ChoiceQuestion("a", ["of", "of"], 0)]).accuracy.accuracy == 1


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("a", "b", " b"), ("a ", "b", "b"), ("a", " b", " b"), ("a\n", "b", "b"), ("", "b", "b"), ("a", "\nb", "\nb")],
)
def test_one_space_stands_between(before, after, expected):
    assert joined(before, after) == expected


def test_the_numbers_have_documented_names(model):
    value = json.loads(json.dumps(multiple_choice(model, QUESTIONS, start=Start("none")).to_dict()))
    assert value["num_questions"] == 4
    assert value["start"] == "none"
    for name in ("accuracy", "accuracy_per_byte"):
        assert value[f"{name}_low"] <= value[name] <= value[f"{name}_high"]
    assert value["interval"] == "95%, Wilson"


def test_long_questions_are_cut_and_counted(model):
    long = ChoiceQuestion("the people of this world " * 9, ["it", "was"], 0)
    assert multiple_choice(model, [*QUESTIONS, long]).num_cut == 1


def test_a_file_is_read(write_lines):
    path = write_lines("q.jsonl", {"query": "q", "choices": ["a", "b"], "gold": 1, "id": 7})
    assert list(read_questions(path)) == [ChoiceQuestion("q", ["a", "b"], 1)]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"query": "q", "choices": ["a", "b"]}, 'line 1 has no field "gold"'),
        ({"query": "q", "choices": ["a"], "gold": 0}, 'the field "choices" in'),
        ({"query": "q", "choices": ["a", ""], "gold": 0}, "none of them empty"),
        ({"query": "q", "choices": "ab", "gold": 0}, "a list of two texts or more"),
        ({"query": "q", "choices": ["a", "b"], "gold": "A"}, "is not a whole number"),
        ({"query": "q", "choices": ["a", "b"], "gold": True}, "is not a whole number"),
        ({"query": "q", "choices": ["a", "b"], "gold": 2}, "is 2, and there are 2 choices"),
        ({"query": "q", "choices": ["a", "b"], "gold": -1}, "is -1, and there are 2 choices"),
    ],
)
def test_a_wrong_line_is_refused(write_lines, record, said):
    with pytest.raises(UserError) as caught:
        list(read_questions(write_lines("q.jsonl", record)))
    assert said in caught.value.message


def test_no_question_is_refused(model):
    with pytest.raises(UserError, match="nothing to evaluate"):
        multiple_choice(model, [])
