"""Tasks by their names on the command line: `KIND=DATA` becomes numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stentor.errors import UserError, nearest_name
from stentor.evaluate.starting import Start
from stentor.runtime.engine import LanguageModel
from stentor.runtime.options import Progress

FORMS = {
    "blimp": "blimp=FOLDER",
    "choice": "choice=FILE",
    "lambada": "lambada=FILE",
    "lm-eval": "lm-eval=NAME[,NAME]",
}


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is to do.

    Attributes:
        kind: a key of `FORMS`.
        data: where its data is, or the names of lm-eval's tasks.
    """

    kind: str
    data: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How tasks are done.

    Attributes:
        start: what stands before a text.
        space: whether a space stands before each sentence of BLiMP.
    """

    start: Start = field(default_factory=Start)
    space: bool = False


def parse_task(text: str) -> Task:
    """Read `KIND=DATA`.

    Raises:
        UserError: there is no such kind, or no data is named.
    """
    kind, _, data = text.partition("=")
    if kind not in FORMS:
        raise UserError(
            f"there is no task {kind!r}", fix=f"{nearest_name(kind, FORMS)}; say {', '.join(FORMS.values())}"
        )
    if not data.strip():
        raise UserError(f"the task {kind!r} has no data", fix=f"say {FORMS[kind]}")
    return Task(kind, data.strip())


def run_task(
    model: LanguageModel, task: Task, settings: Settings, *, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Let a model do a task.

    Args:
        model: as it computes.
        task: which one.
        settings: how.
        on_progress: called with (questions done, questions in all) where their number is known.

    Returns:
        `task`, `data`, and the result's numbers by name.

    Raises:
        UserError: the data is not as it must be.
        MissingDependencyError: lm-eval is asked for and not installed.
    """
    return {"task": task.kind, "data": task.data, **_RUNNERS[task.kind](model, task.data, settings, on_progress)}


_Runner = Callable[[LanguageModel, str, Settings, Progress | None], dict[str, Any]]


def _blimp(model: LanguageModel, data: str, settings: Settings, on_progress: Progress | None) -> dict[str, Any]:
    from stentor.evaluate.blimp import blimp, read_pairs

    pairs = list(read_pairs(Path(data).expanduser()))
    return blimp(model, pairs, start=settings.start, space=settings.space, on_progress=on_progress).to_dict()


def _choice(model: LanguageModel, data: str, settings: Settings, on_progress: Progress | None) -> dict[str, Any]:
    from stentor.evaluate.choice import multiple_choice, read_questions

    questions = list(read_questions(Path(data).expanduser()))
    return multiple_choice(model, questions, start=settings.start, on_progress=on_progress).to_dict()


def _lambada(model: LanguageModel, data: str, settings: Settings, on_progress: Progress | None) -> dict[str, Any]:
    from stentor.evaluate.lambada import lambada, read_passages

    passages = list(read_passages(Path(data).expanduser()))
    return lambada(model, passages, start=settings.start, on_progress=on_progress).to_dict()


def _lm_eval(model: LanguageModel, data: str, settings: Settings, on_progress: Progress | None) -> dict[str, Any]:
    from stentor.evaluate.lm_eval import run_lm_eval

    return run_lm_eval(model, [name.strip() for name in data.split(",") if name.strip()], start=settings.start)


_RUNNERS: dict[str, _Runner] = {"blimp": _blimp, "choice": _choice, "lambada": _lambada, "lm-eval": _lm_eval}
