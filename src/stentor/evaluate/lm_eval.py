"""A model of ours as lm-eval sees one, for all the tasks that it has and Stentor has not.

    lm = StentorLM("runs/tiny")
    lm_eval.simple_evaluate(lm, tasks=["arc_easy"])

This module imports lm-eval, and with it torch and datasets: it is loaded by those alone who ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from stentor.errors import StentorError, UserError, missing_extra, nearest_name
from stentor.evaluate.starting import Start, TextQuestion, score_texts
from stentor.runtime.engine import LanguageModel, load
from stentor.runtime.open import exact_dtype
from stentor.runtime.options import Question, score_options

try:
    import lm_eval.evaluator
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager
except ImportError:
    raise missing_extra("lm_eval", "eval", needed_for="a task of lm-eval") from None

DEFAULT_NEW_TOKENS = 256
"""At most so many tokens are generated where a task does not say."""
_GREEDY = {"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0}
_SAMPLED = ("top_k", "top_p", "min_p", "repetition_penalty")


class StentorLM(LM):
    """An `LM` over a model that Stentor opens.

    Args:
        model: loaded, as it computes; or the path or Hub id of one, in float32.
        start: what stands before a text, one of `starting.STARTS`, as in Stentor's own tasks.
    """

    def __init__(self, model: LanguageModel | str | Path, *, start: str = "eos") -> None:
        super().__init__()
        self.model = model if isinstance(model, LanguageModel) else load(model, dtype=exact_dtype(model))
        self.start = Start(start)

    @property
    def max_length(self) -> int:
        """Tokens that fit into the context."""
        return self.model.network.config.max_position_embeddings

    @property
    def tokenizer_name(self) -> str:
        """What tells this model's requests from those of other tokenizers in lm-eval's cache."""
        return f"stentor-{self.model.tokenizer.sha256[:16]}-{self.start.name}"

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Return ln p of each continuation after its context, and whether it is the greedy one."""
        asked: list[Any] = [request.args for request in requests]
        questions = [
            TextQuestion(context, [continuation for _, continuation in group])
            for context, group in groupby(asked, key=lambda pair: pair[0])
        ]
        scores, _ = score_texts(self.model, questions, self.start)
        found = [pair for score in scores for pair in zip(score.log_probs, score.are_greedy, strict=True)]
        for request, result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, result)
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Return ln p of each text, alone; one that is longer than the context is read in windows of its length.

        Each token is scored once, and the last window begins early enough to be a whole one.
        """
        totals = []
        for request in requests:
            ids = self.model.tokenizer.encode(request.args[0])
            first = self.start.token_id(self.model.tokenizer)
            questions = list(rolling_questions(ids, first, self.max_length))
            totals.append(sum(score.log_probs[0] for score in score_options(self.model.network, questions)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return the continuation of each context, greedy unless the task says otherwise."""
        made = []
        for request in requests:
            arguments: Any = request.args
            context, settings = arguments
            made.append(self._generate(context, dict(settings)))
            self.cache_hook.add_partial("generate_until", request.args, made[-1])
        return made

    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        until = settings.get("until") or []
        max_new_tokens = int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or DEFAULT_NEW_TOKENS)
        max_new_tokens = min(max_new_tokens, self.max_length - 1)
        sampling: dict[str, Any] = dict(_GREEDY)
        if settings.get("do_sample") and settings.get("temperature", 1.0) > 0:
            sampling |= {"temperature": float(settings.get("temperature", 1.0))}
            sampling |= {name: settings[name] for name in _SAMPLED if name in settings}
        ids = self.start.before(self.model.tokenizer, self.model.tokenizer.encode(context))
        return self.model.generate(
            ids[-(self.max_length - max_new_tokens) :],
            max_new_tokens=max_new_tokens,
            stop=[until] if isinstance(until, str) else list(until),
            **sampling,
        )


def rolling_questions(ids: Sequence[int], first: int, context_length: int) -> Iterator[Question]:
    """Yield windows that score each token of a text once, each with as much before it as there is room for.

    Args:
        ids: of the text.
        first: stands before it.
        context_length: tokens of a window.
    """
    if ids:
        yield Question([first], [ids[:context_length]])
    for start in range(context_length, len(ids), context_length):
        end = min(start + context_length, len(ids))
        yield Question(ids[end - context_length - 1 : start], [ids[start:end]])


def run_lm_eval(
    model: LanguageModel, names: Sequence[str], *, start: Start | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Run tasks of lm-eval.

    Args:
        model: as it computes.
        names: of tasks or groups that lm-eval has, or paths of task files (.yaml).
        start: what stands before a text; an EOS where none is given.
        limit: questions of each task; None takes all.

    Returns:
        `tasks`: for each task its numbers by lm-eval's names; `start`; and lm-eval's `version`.

    Raises:
        UserError: there is no such task, or it cannot be run, such as without its data.
    """
    from importlib.metadata import version

    start = start or Start()
    try:
        are_files = all(Path(name).is_file() for name in names)
        manager = TaskManager(include_defaults=not are_files)  # which are ten thousand files
        _require_known(manager, names)
        simple_evaluate: Any = lm_eval.evaluator.simple_evaluate
        found = simple_evaluate(
            StentorLM(model, start=start.name),
            tasks=list(names),
            task_manager=manager,
            limit=limit,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except StentorError:
        raise
    except Exception as error:  # whatever a task's own code, or the library that fetches its data, may raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"lm-eval cannot run {', '.join(names)}: {type(error).__name__}: {reason}",
            fix="its data must be on this machine, or there must be a network to fetch it once; "
            "stentor --debug evaluate ... shows where it failed",
        ) from error
    assert found is not None  # on the first process, and there is one alone
    return {
        "tasks": {name: _numbers(values) for name, values in found["results"].items()},
        "start": start.name,
        "version": version("lm_eval"),
    }


def _require_known(manager: TaskManager, names: Sequence[str]) -> None:
    known = set(manager.all_tasks)
    for name in names:
        if name not in known and "*" not in name and not Path(name).is_file():
            close = nearest_name(name, known)
            raise UserError(
                f"lm-eval has no task {name!r}", fix=close if len(close) < 200 else "lm-eval ls tasks lists them"
            )


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Return a task's metrics without the name of the filter where it is none: `acc,none` is `acc`."""
    return {
        name.removesuffix(",none"): value
        for name, value in values.items()
        if isinstance(value, (int, float)) or value is None
    }
