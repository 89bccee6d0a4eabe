"""BLiMP: does a model find the grammatical one of two sentences likelier?

Its files are read as they were published, one `PARADIGM.jsonl` of 1,000 pairs for each of 67 paradigms.

Reference: Warstadt et al. 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs for English", arXiv 1912.00582.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from stentor.errors import UserError
from stentor.evaluate.intervals import Accuracy, Outcomes, mean_share, wilson
from stentor.evaluate.records import TEXT, Field, read_records, record_files
from stentor.evaluate.starting import Start
from stentor.runtime.engine import LanguageModel
from stentor.runtime.options import Progress, Question, fitted, score_options

NUM_PARADIGMS, NUM_PAIRS = 67, 67_000
_FIELDS: dict[str, Field] = dict.fromkeys(("sentence_good", "sentence_bad", "UID", "field", "linguistics_term"), TEXT)
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in one thing.

    Attributes:
        good: the grammatical one.
        bad: the other.
        paradigm: what the pairs of a file have in common (`UID`).
        phenomenon: what paradigms have in common (`linguistics_term`).
        field: of linguistics.
    """

    good: str
    bad: str
    paradigm: str
    phenomenon: str
    field: str


@dataclass(frozen=True, slots=True)
class Paradigm:
    """A paradigm's result.

    Attributes:
        phenomenon: that it belongs to.
        field: of linguistics.
        outcomes: of its pairs.
    """

    phenomenon: str
    field: str
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class BlimpResult:
    """Accuracy on BLiMP: the share of pairs whose good sentence has the higher log-probability; a tie counts half.

    Attributes:
        overall: mean over paradigms; its interval, as those of phenomena and fields, is a stratified bootstrap.
        paradigms: by UID, each with Wilson's interval.
        phenomena: by `linguistics_term`: means over their paradigms.
        fields: means over their paradigms.
        start: what stands before a sentence.
        space: whether a space does, too.
        num_cut: pairs with a sentence longer than the context, of which the end alone was read.
    """

    overall: Accuracy
    paradigms: dict[str, Accuracy]
    phenomena: dict[str, Accuracy]
    fields: dict[str, Accuracy]
    start: str
    space: bool
    num_cut: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        overall, groups = asdict(self.overall), ("paradigms", "phenomena", "fields")
        return {
            "blimp_accuracy": overall.pop("accuracy"),
            "low": overall["low"],
            "high": overall["high"],
            "num_pairs": overall["num_asked"],
            "num_ties": overall["num_ties"],
            "num_paradigms": len(self.paradigms),
            "is_whole": len(self.paradigms) == NUM_PARADIGMS and overall["num_asked"] == NUM_PAIRS,
            "interval": "95%; paradigms: Wilson; means: percentile bootstrap of the pairs within each paradigm",
            "start": self.start,
            "space": self.space,
            "num_cut": self.num_cut,
            **{name: {key: asdict(value) for key, value in getattr(self, name).items()} for name in groups},
        }


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a folder of BLiMP's files, or of one file.

    Raises:
        UserError: a line is not as BLiMP's are; file, line and field are named.
    """
    groups: dict[str, tuple[str, str]] = {}
    for file in record_files(path):
        for record in read_records(file, _FIELDS):
            good, bad, paradigm, field, phenomenon = (record.values[name] for name in _FIELDS)
            if groups.setdefault(paradigm, (phenomenon, field)) != (phenomenon, field):
                raise UserError(
                    f'the fields "linguistics_term" and "field" in {record.place} are not those of earlier lines of '
                    f"the paradigm {paradigm!r}",
                    fix="give all lines of a UID the same ones",
                )
            yield Pair(good, bad, paradigm, phenomenon, field)


def blimp(
    model: LanguageModel,
    pairs: Iterable[Pair],
    *,
    start: Start | None = None,
    space: bool = False,
    on_progress: Progress | None = None,
) -> BlimpResult:
    """Measure a model on pairs of sentences.

    A sentence's score is the sum of ln p of its tokens; the common beginning of a pair is read once and counts for
    neither. The end of a sentence is not predicted.

    Args:
        model: as it computes.
        pairs: of any number of paradigms.
        start: what stands before a sentence; an EOS where none is given.
        space: put a space before each sentence, as lm-eval's BLiMP does.
        on_progress: called with (pairs done, pairs in all).

    Raises:
        UserError: there is no pair, or a sentence is longer than the context.
    """
    start, pairs = start or Start(), list(pairs)
    if not pairs:
        raise UserError("there is no pair of sentences to evaluate", fix="name the folder of BLiMP's .jsonl files")
    counts: dict[str, list[int]] = {}
    groups = {pair.paradigm: (pair.phenomenon, pair.field) for pair in pairs}
    num_cut, num_done, iterator = 0, 0, iter(pairs)
    while batch := list(islice(iterator, _AT_ONCE)):
        contexts, questions = _questions(model, batch, start, " " * space)
        num_cut += sum(map(_is_cut, contexts, questions))
        for pair, score in zip(batch, score_options(model.network, questions), strict=True):
            good, bad = score.log_probs
            found = counts.setdefault(pair.paradigm, [0, 0, 0])
            found[0] += good > bad
            found[1] += good == bad
            found[2] += 1
        num_done += len(batch)
        if on_progress:
            on_progress(num_done, len(pairs))
    paradigms = {name: Paradigm(*groups[name], Outcomes(*found)) for name, found in counts.items()}
    return _result(paradigms, start, space, num_cut)


def _questions(
    model: LanguageModel, pairs: Sequence[Pair], start: Start, before: str
) -> tuple[list[list[int]], list[Question]]:
    """Return the whole common beginning of each pair, and what the network is asked."""
    ids = model.tokenizer.encode_batch([before + text for pair in pairs for text in (pair.good, pair.bad)])
    beginning, context_length = start.before(model.tokenizer, []), model.network.config.max_position_embeddings
    contexts, questions = [], []
    for pair, good, bad in zip(pairs, ids[::2], ids[1::2], strict=True):
        if not (good and bad):
            raise UserError(
                f"the vocabulary has no token for {(pair.bad if good else pair.good)!r}, of {pair.paradigm}",
                fix="use a model whose vocabulary covers the language of the pairs",
            )
        common = _common_length(good, bad)
        contexts.append(beginning + good[:common])
        questions.append(fitted(contexts[-1], [good[common:], bad[common:]], context_length))
    return contexts, questions


def _common_length(good: list[int], bad: list[int]) -> int:
    return next(
        (place for place, (one, other) in enumerate(zip(good, bad, strict=False)) if one != other),
        min(len(good), len(bad)),
    )


def _is_cut(context: Sequence[int], question: Question) -> bool:
    return len(question.context) < len(context)


def _result(paradigms: dict[str, Paradigm], start: Start, space: bool, num_cut: int) -> BlimpResult:
    def means(names: Iterable[str], group_of: Any) -> dict[str, Accuracy]:
        return {
            name: mean_share([found.outcomes for found in paradigms.values() if group_of(found) == name])
            for name in sorted(set(names))
        }

    return BlimpResult(
        overall=mean_share([found.outcomes for found in paradigms.values()]),
        paradigms={name: wilson(found.outcomes) for name, found in sorted(paradigms.items())},
        phenomena=means((found.phenomenon for found in paradigms.values()), lambda found: found.phenomenon),
        fields=means((found.field for found in paradigms.values()), lambda found: found.field),
        start=start.name,
        space=space,
        num_cut=num_cut,
    )
