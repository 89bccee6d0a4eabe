"""The YAML at the top of a card: made with huggingface_hub, and checked here as the Hub checks it, without the "
"network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from stentor.errors import UserError, missing_extra
from stentor.report.card.licenses import KNOWN
from stentor.report.card.results import Found
from stentor.report.card.subject import Material

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LIBRARY, PIPELINE = "transformers", "text-generation"
_HUB_SOURCE = re.compile(r"(?:^|,)\s*hf:([\w.-]+/[\w.-]+)")
_MIX = re.compile(r"[^=,]+=[^=,]*(,[^=,]+=[^=,]*)+")
_NOT_IN_MODEL_INDEX = re.compile(r"_stderr|^alias$|^sample")


def card_data(material: Material) -> ModelCardData:
    """Return the metadata of a card; what is not known is left out.

    Raises:
        MissingDependencyError: huggingface_hub is not installed.
        UserError: the Hub would refuse it.
    """
    try:
        from huggingface_hub import ModelCardData
    except ImportError:
        raise missing_extra("huggingface_hub", "report", needed_for="a model card") from None
    about, results = material.about, eval_results(material)
    fields: dict[str, Any] = {
        "license": about.license or None,
        "license_name": about.license_name or None,
        "license_link": about.license_link or None,
        "language": list(about.languages) or None,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE,
        "datasets": datasets(material) or None,
        "tags": _tags(material),
        "metrics": list(dict.fromkeys(result.metric_type for result in results)) or None,
    }
    # A name without results is refused by huggingface_hub, and the reverse too.
    index: dict[str, Any] = {"model_name": material.name, "eval_results": results} if results else {}
    data = ModelCardData(**fields, **index)
    require_valid(data.to_dict())
    return data


def datasets(material: Material) -> list[str]:
    """Return the ids of the Hub's datasets that the model was trained on."""
    named = [source.dataset for source in material.about.of_role("training") if source.dataset]
    run = material.subject.run
    if material.about.of_role("training") or run is None:
        return list(dict.fromkeys(named))  # its maker knows better than a recipe, which may have been given other text
    return list(dict.fromkeys(_HUB_SOURCE.findall(str(run.settings.get("text.source", "")))))


def eval_results(material: Material) -> list[EvalResult]:
    """Return what was measured as the Hub's model index holds it."""
    from huggingface_hub import EvalResult

    results = []
    for found in material.results.of("evaluate"):
        results += found.read(lambda value, found=found: list(_of_evaluation(found, value)))
    run = material.subject.run
    if run is not None and run.best and not any("bits_per_byte" in f.value for f in material.results.of("evaluate")):
        results += _of_text("Held-out text of the training", run.best)
    slugs = _slugs(name for name, *_ in results)
    return [
        EvalResult(task_type=PIPELINE, task_name="Text generation", dataset_type=slugs[name], dataset_name=name,
                   metric_type=metric, metric_name=label, metric_value=value)
        for name, metric, label, value in results
    ]  # fmt: skip


_Metric = tuple[str, str, str, float]


def _of_evaluation(found: Found, value: Mapping[str, Any]) -> Iterator[_Metric]:
    if "bits_per_byte" in value:
        yield from _of_text(text_name(found), value)
    for task in value.get("tasks", ()):
        yield from _of_task(task)


def _of_text(name: str, value: Mapping[str, Any]) -> Iterator[_Metric]:
    for metric, label in (
        ("bits_per_byte", "Bits per byte"),
        ("loss_nats", "Loss, nats per token"),
        ("perplexity", "Perplexity, per token"),
    ):
        yield name, metric, label, _rounded(value[metric])


def _of_task(task: Mapping[str, Any]) -> Iterator[_Metric]:
    kind = task["task"]
    if kind == "blimp":
        name = "BLiMP" if task["is_whole"] else f"{task['num_pairs']:,} pairs of BLiMP"
        yield name, "accuracy", "Accuracy, mean over paradigms", _rounded(task["blimp_accuracy"])
    elif kind in ("choice", "lambada"):
        name = "LAMBADA" if kind == "lambada" else data_name(task["data"])
        yield name, "accuracy", "Accuracy", _rounded(task["accuracy"])
    else:
        for name, values in task["tasks"].items():
            for metric, number in values.items():
                if isinstance(number, float) and not _NOT_IN_MODEL_INDEX.search(metric):
                    yield f"{name} (lm-eval)", metric.partition(",")[0], metric, _rounded(number)


def text_name(found: Found) -> str:
    """Return what a text that was evaluated is called: by its file's name, else by the source that the result "
    "names."""
    name, stride = found.name or data_name(str(found.value.get("text") or "held-out text")), found.value.get("stride")
    return f"{name}, windows {stride} tokens apart" if stride else name


def data_name(source: str) -> str:
    """Return a short name of a source, without the folders that it lies in on somebody's machine.

    A glob whose last part names nothing, such as `texts/*.txt`, is called by its folder; a mix by all of its parts.
    """
    if _MIX.fullmatch(source):
        return " + ".join(data_name(part.partition("=")[0].strip()) for part in source.split(","))
    parts = [part for part in re.split(r"[/\\]", source) if part]
    named = (part.partition(".")[0] for part in reversed(parts))
    return next((name for name in named if re.search(r"\w", name)), source)


def require_valid(data: Mapping[str, Any]) -> None:
    """Refuse metadata that the Hub would refuse, or not understand.

    Reference: https://github.com/huggingface/hub-docs/blob/main/modelcard.md

    Raises:
        UserError: which key, and why.
    """
    for key, known in (("license", KNOWN), ("pipeline_tag", (PIPELINE,)), ("library_name", (LIBRARY,))):
        if key in data and data[key] not in known:
            raise UserError(
                f"{key} {data[key]!r} is none that the Hugging Face Hub knows",
                fix="use its identifier, such as apache-2.0, or other with license_name and license_link",
            )
    for model in data.get("model-index", ()):
        for result in model["results"]:
            _require_result(result)


def _require_result(result: Mapping[str, Any]) -> None:
    """Check a task's results: every part that the Hub asks for, and values that are numbers."""
    if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]):
        raise UserError("a result of the model index has no task or no dataset", fix="name the file of results anew")
    for metric in result["metrics"]:
        value = metric["value"]
        if type(value) not in (int, float) or not math.isfinite(value) or not metric["type"]:
            raise UserError(
                f"the metric {metric['type']!r} on {result['dataset']['name']!r} is {value!r}, not a finite number",
                fix="measure it again",
            )


def _tags(material: Material) -> list[str]:
    subject = material.subject
    formats = {
        "gguf": subject.named(".gguf"),
        "onnx": subject.named(".onnx"),
        "transformers.js": subject.named(".onnx"),
    }
    there = [name for name, files in formats.items() if files]
    return list(dict.fromkeys(["stentor", subject.config.carrier, "base-model", *there, *material.about.tags]))


def _rounded(value: float) -> float:
    """Leave the digits that mean something, so that the YAML is readable."""
    return float(f"{value:.6g}")


def _slugs(names: Iterable[str]) -> dict[str, str]:
    """Return an identifier for each name; the Hub takes results of equal ones for those of one text."""
    by_slug: dict[str, str] = {}
    for name in dict.fromkeys(names):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "text"
        numbered = (f"{slug}-{number}" for number in count(2))
        by_slug[next(one for one in chain([slug], numbered) if one not in by_slug)] = name
    return {name: slug for slug, name in by_slug.items()}
