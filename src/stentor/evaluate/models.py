"""Models side by side on equal terms: the same text in the same bytes, the same tasks with the same start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stentor.evaluate.parts import evaluate_parts
from stentor.evaluate.tasks import Settings, Task, run_task
from stentor.model.measure import Evaluation, Progress
from stentor.runtime.engine import LanguageModel


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """What a model is, and what it was measured to do.

    Attributes:
        num_parameters: a tied embedding counted once, padding rows of it counted.
        vocab_size: tokens of its tokenizer.
        context_length: in tokens; a text is read in windows of it.
        evaluation: on the text; None without one.
        tasks: results as `tasks.run_task` returns them.
    """

    name: str
    num_parameters: int
    vocab_size: int
    context_length: int
    evaluation: Evaluation | None
    tasks: list[dict[str, Any]]

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of the text for each token, EOS counted; None without a text."""
        return self.evaluation and self.evaluation.num_bytes / self.evaluation.num_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        return {
            "model": self.name,
            "num_parameters": self.num_parameters,
            "vocab_size": self.vocab_size,
            "context_length": self.context_length,
            "bytes_per_token": self.bytes_per_token,
            **(self.evaluation.to_dict() if self.evaluation else {}),
            "tasks": self.tasks,
        }


def measure_model(
    model: LanguageModel,
    name: str,
    *,
    texts: Iterable[str | bytes] | None = None,
    tasks: Sequence[Task] = (),
    settings: Settings | None = None,
    on_progress: Progress | None = None,
) -> MeasuredModel:
    """Measure one of several models that are compared.

    Args:
        model: as it computes.
        name: under which it is shown.
        texts: documents that all are measured on.
        tasks: that all do.
        settings: of the tasks; the defaults where none are given.
        on_progress: called with what is done of the text or of a task, and its whole.

    Raises:
        UserError: the texts are empty, or a task's data is not as it must be.
    """
    config, settings = model.network.config, settings or Settings()
    evaluation = None if texts is None else evaluate_parts(model, texts, on_progress=on_progress).whole
    return MeasuredModel(
        name=name,
        num_parameters=getattr(model.network, "num_parameters", config.num_parameters),
        vocab_size=model.tokenizer.vocab_size,
        context_length=config.max_position_embeddings,
        evaluation=evaluation,
        tasks=[run_task(model, task, settings, on_progress=on_progress) for task in tasks],
    )


def unequal_terms(models: Sequence[MeasuredModel]) -> list[str]:
    """Say in a sentence each in what the measurements of models still differ."""
    sentences = []
    if len({model.context_length for model in models}) > 1:
        sentences.append("their contexts differ: a longer window has more text before each token to predict it by")
    if len({model.vocab_size for model in models}) > 1 and any(model.evaluation for model in models):
        sentences.append("their vocabularies differ: compare bits per byte, not nats per token")
    if any(model.evaluation and model.evaluation.num_lost_bytes for model in models):
        sentences.append("a tokenizer drops bytes of the text, which its model need not predict")
    return sentences
