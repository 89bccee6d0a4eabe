"""LAMBADA: does a model know the last word of a passage that the whole of it tells?

A JSON line each: `context`, and `continuation`, which is the last word.

Reference: Paperno et al. 2016, "The LAMBADA dataset: Word prediction requiring a broad discourse context", 1606.06031.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stentor.evaluate.choice import joined
from stentor.evaluate.intervals import Accuracy, Outcomes, wilson
from stentor.evaluate.records import TEXT, read_records, record_files
from stentor.evaluate.starting import Start, TextQuestion, score_texts
from stentor.runtime.engine import LanguageModel
from stentor.runtime.options import Progress

_FIELDS = {"context": TEXT, "continuation": TEXT}


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage without its last word, and that word."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class LambadaResult:
    """How well last words are predicted.

    Attributes:
        accuracy: share of the words whose every token is the likeliest one, with Wilson's interval.
        perplexity: exp of the mean of -ln p of a word, as lm-eval's; it depends on no tokenizer.
        start: what stands before a passage.
        num_cut: passages longer than the context, of which the end alone was read.
    """

    accuracy: Accuracy
    perplexity: float
    start: str
    num_cut: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        return {
            "accuracy": self.accuracy.accuracy,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "interval": "95%, Wilson",
            "word_perplexity": self.perplexity,
            "num_passages": self.accuracy.num_asked,
            "num_cut": self.num_cut,
            "start": self.start,
        }


def read_passages(path: Path) -> Iterator[Passage]:
    """Yield the passages of a file or a folder.

    Raises:
        UserError: a line is not as it must be; file, line and field are named.
    """
    for file in record_files(path):
        for record in read_records(file, _FIELDS):
            yield Passage(*(record.values[name] for name in _FIELDS))


def lambada(
    model: LanguageModel,
    passages: Sequence[Passage],
    *,
    start: Start | None = None,
    on_progress: Progress | None = None,
) -> LambadaResult:
    """Measure a model on passages; a space stands before the last word where there is none.

    Args:
        model: as it computes.
        passages: at least one.
        start: what stands before a passage; an EOS where none is given.
        on_progress: called with (passages done, passages in all).

    Raises:
        UserError: there is no passage, or a word is longer than the context.
    """
    start = start or Start()
    asked = [TextQuestion(passage.context, [joined(passage.context, passage.continuation)]) for passage in passages]
    scores, num_cut = score_texts(model, asked, start, on_progress=on_progress)
    num_right = sum(score.are_greedy[0] for score in scores)
    accuracy = wilson(Outcomes(num_right, 0, len(scores)))
    mean_nats = -math.fsum(score.log_probs[0] for score in scores) / len(scores)
    return LambadaResult(accuracy, math.exp(min(mean_nats, 700)), start.name, num_cut)
