"""Multiple choice: which of some answers does a model find the likeliest after a question?

ARC, PIQA, HellaSwag and OpenBookQA in one form, a JSON line each: `query`, `choices`, and `gold`, the place of the
right one, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stentor.errors import UserError
from stentor.evaluate.intervals import Accuracy, Outcomes, wilson
from stentor.evaluate.records import TEXT, Field, read_records, record_files
from stentor.evaluate.starting import Start, TextQuestion, score_texts
from stentor.runtime.engine import LanguageModel
from stentor.runtime.options import Progress


def _are_choices(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(choice, str) and choice for choice in value)


_FIELDS = {
    "query": TEXT,
    "choices": Field("a list of two texts or more, none of them empty", _are_choices),
    "gold": Field("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
}


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question, its answers, and the place of the right one."""

    query: str
    choices: list[str]
    gold: int


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """Accuracy on multiple choice; of equally likely answers the first is taken.

    Attributes:
        accuracy: by the log-probability of an answer (lm-eval's `acc`), with Wilson's interval.
        accuracy_per_byte: by the log-probability over the answer's UTF-8 bytes (lm-eval's `acc_bytes`; its `acc_norm`
            counts characters, which are the same for ASCII).
        chance: the accuracy of a blind guess.
        start: what stands before a question.
        num_cut: questions longer than the context, of which the end alone was read.
    """

    accuracy: Accuracy
    accuracy_per_byte: Accuracy
    chance: float
    start: str
    num_cut: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        values: dict[str, Any] = {}
        for name in ("accuracy", "accuracy_per_byte"):
            found = asdict(getattr(self, name))
            values |= {name: found["accuracy"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
        return {
            **values,
            "interval": "95%, Wilson",
            "chance": self.chance,
            "num_questions": self.accuracy.num_asked,
            "num_cut": self.num_cut,
            "start": self.start,
        }


def read_questions(path: Path) -> Iterator[ChoiceQuestion]:
    """Yield the questions of a file or a folder.

    Raises:
        UserError: a line is not as it must be; file, line and field are named.
    """
    for file in record_files(path):
        for record in read_records(file, _FIELDS):
            query, choices, gold = (record.values[name] for name in _FIELDS)
            if not 0 <= gold < len(choices):
                raise UserError(
                    f'the field "gold" in {record.place} is {gold}, and there are {len(choices)} choices',
                    fix="give the place of the right choice, counted from 0",
                )
            yield ChoiceQuestion(query, choices, gold)


def multiple_choice(
    model: LanguageModel,
    questions: Sequence[ChoiceQuestion],
    *,
    start: Start | None = None,
    on_progress: Progress | None = None,
) -> ChoiceResult:
    """Measure a model on questions; a space stands between question and answer where neither has one.

    Args:
        model: as it computes.
        questions: at least one.
        start: what stands before a question; an EOS where none is given.
        on_progress: called with (questions done, questions in all).

    Raises:
        UserError: there is no question, or an answer is longer than the context.
    """
    start = start or Start()
    asked = [
        TextQuestion(question.query, [joined(question.query, choice) for choice in question.choices])
        for question in questions
    ]
    scores, num_cut = score_texts(model, asked, start, on_progress=on_progress)
    num_right = [0, 0]
    for question, score in zip(questions, scores, strict=True):
        lengths = [len(choice.encode(errors="replace")) for choice in question.choices]
        log_probs = np.array(score.log_probs)
        num_right[0] += int(log_probs.argmax()) == question.gold
        num_right[1] += int((log_probs / lengths).argmax()) == question.gold
    raw, per_byte = (wilson(Outcomes(count, 0, len(questions))) for count in num_right)
    chance = sum(1 / len(question.choices) for question in questions) / len(questions)
    return ChoiceResult(raw, per_byte, chance, start.name, num_cut)


def joined(before: str, after: str) -> str:
    """Return what comes after a text, with a space before it unless there is one already."""
    return after if not before or before[-1].isspace() or after[0].isspace() else f" {after}"
