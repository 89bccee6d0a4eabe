"""What stands before the first token of a text that is scored, and how a text and its continuation become ids.

Scores move with it, so every task states it in its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from stentor.errors import UserError, nearest_name
from stentor.runtime.engine import LanguageModel
from stentor.runtime.options import OptionScores, Progress, fitted, score_options
from stentor.tokenizer.base import Tokenizer

STARTS = {
    "eos": "an EOS before every text, as in training",
    "bos": "a BOS before every text",
    "none": "nothing before a text, and an EOS where there is nothing else to begin with, as lm-eval's own models do",
}
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Start:
    """Which token begins a text.

    Attributes:
        name: one of `STARTS`.

    Raises:
        UserError: there is no such way.
    """

    name: str = "eos"

    def __post_init__(self) -> None:
        if self.name not in STARTS:
            raise UserError(f"there is no start {self.name!r}", fix=nearest_name(self.name, STARTS))

    def token_id(self, tokenizer: Tokenizer) -> int:
        """Return the token that stands before a text that has nothing before it."""
        return tokenizer.bos_token_id if self.name == "bos" else tokenizer.eos_token_id

    def before(self, tokenizer: Tokenizer, context: Sequence[int]) -> list[int]:
        """Return what is read before a continuation: at least one token."""
        if self.name == "none" and context:
            return list(context)
        return [self.token_id(tokenizer), *context]


@dataclass(frozen=True, slots=True)
class TextQuestion:
    """A text and continuations of it, spaces between them included.

    Attributes:
        context: what stands before; may be empty.
        options: the continuations.
    """

    context: str
    options: Sequence[str]


def score_texts(
    model: LanguageModel, questions: Sequence[TextQuestion], start: Start, *, on_progress: Progress | None = None
) -> tuple[list[OptionScores], int]:
    """Score continuations of texts.

    Args:
        model: is asked.
        questions: texts.
        start: what stands before each.
        on_progress: called with (questions done, questions in all).

    Returns:
        A score for each question, and of how many the beginning was cut off for they are longer than the context.

    Raises:
        UserError: a continuation alone is longer than the context, or the vocabulary cannot encode it.
    """
    scores, num_cut, context_length = list[OptionScores](), 0, model.network.config.max_position_embeddings
    iterator = iter(questions)
    while batch := list(islice(iterator, _AT_ONCE)):
        asked = []
        for context, options in _encoded(model.tokenizer, batch):
            before = start.before(model.tokenizer, context)
            asked.append(fitted(before, options, context_length))
            num_cut += len(asked[-1].context) < len(before)
        scores += score_options(model.network, asked, on_progress=_shifted(on_progress, len(scores), len(questions)))
    return scores, num_cut


def _shifted(on_progress: Progress | None, before: int, whole: int) -> Progress | None:
    return None if on_progress is None else lambda done, _: on_progress(before + done, whole)


def _encoded(tokenizer: Tokenizer, questions: Sequence[TextQuestion]) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield the ids of each context and its options, split as lm-eval splits them.

    A text is encoded together with its continuation, and what goes beyond the tokens of the context alone is the
    continuation; spaces at the end of the context belong to it.
    """
    contexts, wholes = [], list[str]()
    for question in questions:
        contexts.append(question.context.rstrip())
        wholes += [question.context + option for option in question.options]
    ids_of_contexts, ids_of_wholes = tokenizer.encode_batch(contexts), iter(tokenizer.encode_batch(wholes))
    for question, context_ids in zip(questions, ids_of_contexts, strict=True):
        options = [next(ids_of_wholes)[len(context_ids) :] for _ in question.options]
        for option, option_ids in zip(question.options, options, strict=True):
            if option and not option_ids:
                raise UserError(
                    f"the vocabulary has no token for {option[:40]!r} after {question.context[-40:]!r}",
                    fix="use texts in the language and the alphabet that the model was trained on",
                )
        yield context_ids, options
