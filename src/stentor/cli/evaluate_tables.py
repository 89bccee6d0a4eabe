"""How parts of a text and results of tasks are printed; the same numbers are in the JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stentor.cli.output import columns, table

if TYPE_CHECKING:
    from stentor.evaluate.models import MeasuredModel
    from stentor.evaluate.parts import Part

_QUANTILES = (0.1, 0.5, 0.9)
_HARDEST = 5


def document_table(documents: Sequence[Part], names: Sequence[str]) -> str:
    """Say how bits per byte spread over documents, and which are the hardest."""
    each = [(part.bits_per_byte, name) for part, name in zip(documents, names, strict=True)]
    found = sorted(((value, name) for value, name in each if value is not None), reverse=True)
    empty = f", {len(documents) - len(found):,} of them empty" if len(found) < len(documents) else ""
    values = [value for value, _ in reversed(found)]
    rows: dict[str, object] = {"documents": f"{len(documents):,}{empty}; bits per byte of each:"}
    for share in _QUANTILES:
        rows[f"  {share:.0%} are below"] = f"{values[min(int(share * len(values)), len(values) - 1)]:.4f}"
    for value, name in found[:_HARDEST]:
        rows[f"  {name}"] = f"{value:.4f}"
    return table(rows)


def position_table(positions: Sequence[Part]) -> str:
    """Lay out the loss by position."""
    rows: list[tuple[str, list[str]]] = [("position in the window", ["tokens", "nats/token", "bits per byte"])]
    for part in positions:
        bits = part.bits_per_byte
        loss = f"{part.nats / part.num_tokens:.4f}"
        rows.append((part.name, [f"{part.num_tokens:,}", loss, "-" if bits is None else f"{bits:.4f}"]))
    return columns(rows)


def model_rows(models: Sequence[MeasuredModel]) -> Iterator[tuple[str, list[str]]]:
    """Yield what models are and do, a cell for each; `-` stands for what was not measured."""
    values = [model.to_dict() for model in models]
    for label, name, form in (
        ("parameters", "num_parameters", "{:,}"),
        ("tokens in the vocabulary", "vocab_size", "{:,}"),
        ("context, tokens", "context_length", "{:,}"),
        ("bytes per token", "bytes_per_token", "{:.3f}"),
        ("loss, nats per token", "loss_nats", "{:.4f}"),
        ("bits per byte", "bits_per_byte", "{:.4f}"),
    ):
        if any(value.get(name) is not None for value in values):
            yield label, ["-" if value.get(name) is None else form.format(value[name]) for value in values]
    for index, found in enumerate(values[0]["tasks"]):
        rows = [_headline(value["tasks"][index]) for value in values]
        for label in rows[0]:
            yield f"{found['task']}: {label}", [row.get(label, "-") for row in rows]


def _headline(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the numbers of a task that models are compared by."""
    if found["task"] == "blimp":
        return {"accuracy": f"{found['blimp_accuracy']:.2%}", "95%": f"{found['low']:.2%} to {found['high']:.2%}"}
    if found["task"] == "choice":
        return {"accuracy": f"{found['accuracy']:.2%}", "accuracy per byte": f"{found['accuracy_per_byte']:.2%}"}
    if found["task"] == "lambada":
        return {"accuracy": f"{found['accuracy']:.2%}", "word perplexity": f"{found['word_perplexity']:.2f}"}
    return {
        f"{name} {metric}": f"{value:.4f}"
        for name, values in found["tasks"].items()
        for metric, value in values.items()
        if isinstance(value, float) and not metric.endswith("stderr")
    }


def task_table(found: Mapping[str, Any]) -> str:
    """Lay out the result of a task."""
    return _TABLES[found["task"]](found)


def _blimp(found: Mapping[str, Any]) -> str:
    whole = "" if found["is_whole"] else " (all of BLiMP has 67)"
    rows = {
        "BLiMP": f"{_interval(found, 'blimp_accuracy')}: mean over {found['num_paradigms']} paradigms{whole}, "
        f"{found['num_pairs']:,} pairs, {found['num_ties']:,} ties (each counts half)",
        "intervals": found["interval"],
        "sentences": f"{_started(found)}{'a space, ' * found['space']}then the sentence; its end is not scored",
        **_cut(found, "pairs"),
    }
    lines: list[tuple[str, list[str]]] = [("", ["accuracy", "low", "high", "pairs"])]
    for title, key in (("fields", "fields"), ("phenomena", "phenomena"), ("paradigms", "paradigms")):
        lines.append((title, []))
        for name, value in found[key].items():
            shares = [f"{value[part]:.2%}" for part in ("accuracy", "low", "high")]
            lines.append((f"  {name}", [*shares, f"{value['num_asked']:,}"]))
    return f"{table(rows)}\n{columns(lines)}"


def _choice(found: Mapping[str, Any]) -> str:
    return table(
        {
            "choice": f"{found['data']}: {found['num_questions']:,} questions, a guess is right {found['chance']:.2%}",
            "accuracy": _interval(found, "accuracy", "accuracy_"),
            "... per byte": _interval(found, "accuracy_per_byte", "accuracy_per_byte_"),
            "intervals": found["interval"],
            "questions": f"{_started(found)}then the question",
            **_cut(found, "questions"),
        }
    )


def _lambada(found: Mapping[str, Any]) -> str:
    return table(
        {
            "LAMBADA": f"{found['data']}: {found['num_passages']:,} passages",
            "accuracy": f"{_interval(found, 'accuracy', 'accuracy_')}: last words, greedy",
            "word perplexity": f"{found['word_perplexity']:.2f}",
            "intervals": found["interval"],
            "passages": f"{_started(found)}then the passage",
            **_cut(found, "passages"),
        }
    )


def _lm_eval(found: Mapping[str, Any]) -> str:
    rows: dict[str, object] = {"lm-eval": f"version {found['version']}; start: {found['start']}"}
    for name, values in found["tasks"].items():
        shown = [
            f"{metric} {value:.4f}"
            for metric, value in values.items()
            if isinstance(value, float) and not metric.startswith(("alias", "sample"))
        ]
        rows[f"  {name}"] = ", ".join(shown) or "-"
    return table(rows)


def _interval(found: Mapping[str, Any], name: str, prefix: str = "") -> str:
    return f"{found[name]:.2%} ({found[f'{prefix}low']:.2%} to {found[f'{prefix}high']:.2%})"


def _started(found: Mapping[str, Any]) -> str:
    return {"eos": "an EOS, ", "bos": "a BOS, ", "none": "an EOS where there is nothing else, "}[found["start"]]


def _cut(found: Mapping[str, Any], what: str) -> dict[str, str]:
    """Say how many texts did not fit into the context; nothing where all did."""
    num_cut = found["num_cut"]
    return {"cut": f"{num_cut:,} {what} are longer than the context: their ends alone were read"} if num_cut else {}


_TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "blimp": _blimp,
    "choice": _choice,
    "lambada": _lambada,
    "lm-eval": _lm_eval,
}
