"""Sections on what was measured: text, tasks, other models, what was seen before, what is known by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stentor.report.card.markdown import bullets, code, facts, fenced, paragraphs, plain, table
from stentor.report.card.metadata import data_name, text_name
from stentor.report.card.results import COMMANDS, Found
from stentor.report.card.subject import Material

_RESAMPLES, _SEED = 2000, 0
_STARTS = {
    "eos": "an EOS stands before every text, as in training",
    "bos": "a BOS stands before every text",
    "none": "nothing stands before a text",
}
_DEFINITION = (
    "Bits per byte: -log2 p of the whole text over its UTF-8 bytes, comparable between all models. Documents in order "
    "with an EOS after each; windows of the context, which do not overlap unless the table says so; each token is "
    "scored once, the EOS too. Perplexity and loss are per token: comparable between models of this very tokenizer "
    "alone."
)
Value = Mapping[str, Any]


def not_measured(kind: str) -> str:
    """Say that something was not measured, and which command does it."""
    return f"Not measured. `{COMMANDS[kind]} > {kind}.json` in the folder of results fills this."


def evaluation(material: Material) -> str:
    """Return texts and tasks, with intervals where the results hold what they need."""
    found, run = material.results.of("evaluate"), material.subject.run
    texts = [row for one in found if "bits_per_byte" in one.value for row in [one.read(_text_row(one))]]
    if run is not None and run.best:
        texts.append(["held-out text of the training, best evaluation", *_text_cells(run.best), "-", "-"])
    heads = ("text", "bits per byte", "loss", "perplexity", "bytes", "95% of bits per byte", "xz -9e")
    tasks = [task for one in found for task in one.read(lambda value: list(map(_task, value.get("tasks", ()))))]
    if not texts and not tasks:
        return not_measured("evaluate")
    intervals = (
        "Intervals: percentile bootstrap over the documents of a text, 2,000 times from a fixed seed. `xz -9e` packs "
        "the same text alone."
        if any(row[5] != "-" or row[6] != "-" for row in texts)
        else ""
    )
    return paragraphs(table(heads, texts) if texts else "", _DEFINITION if texts else "", intervals, *tasks)


def _text_row(found: Found) -> Callable[[Value], list[str]]:
    def row(value: Value) -> list[str]:
        documents, xz = value.get("documents"), value.get("xz_bits_per_byte")
        interval = bits_interval(documents) if documents else None
        shown = "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
        return [plain(text_name(found)), *_text_cells(value), shown, "-" if xz is None else f"{xz:.4f}"]

    return row


def _text_cells(value: Value) -> list[str]:
    num_bytes = value.get("num_bytes")
    shown = "-" if num_bytes is None else f"{num_bytes:,}"
    return [f"**{value['bits_per_byte']:.4f}**", f"{value['loss_nats']:.4f}", f"{value['perplexity']:.2f}", shown]


def bits_interval(documents: Sequence[Value]) -> tuple[float, float] | None:
    """Return the interval of 95% confidence of a text's bits per byte, from its documents; None for fewer than two.

    Documents are drawn anew with replacement, from a fixed seed.

    Args:
        documents: with `loss_nats` per token, `num_tokens` and `num_bytes` each.

    Reference: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    if len(documents) < 2:
        return None
    nats = np.array([one["loss_nats"] * one["num_tokens"] for one in documents])
    num_bytes = np.array([one["num_bytes"] for one in documents], dtype=np.float64)
    generator, rates = np.random.default_rng(_SEED), []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(0, len(documents), len(documents))
        if total := num_bytes[drawn].sum():
            rates.append(nats[drawn].sum() / (np.log(2) * total))
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def _task(task: Value) -> str:
    """Return a task's results below its title."""
    title, body = _TASKS[task["task"]](task)
    return f"### {title}\n\n{body}"


def _blimp(task: Value) -> tuple[str, str]:
    partial = "" if task["is_whole"] else ", not all of BLiMP"
    words = (
        f"{_share(task['blimp_accuracy'], task['low'], task['high'])}: mean over {task['num_paradigms']} "
        f"paradigms{partial}, {task['num_pairs']:,} pairs of sentences; {_started(task)}. A guess is right half of the "
        "time."
    )
    rows = [
        [plain(name), f"{one['accuracy']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}", f"{one['num_asked']:,}"]
        for name, one in sorted(task["phenomena"].items())
    ]
    source = "[BLiMP](https://arxiv.org/abs/1912.00582): which of two sentences is grammatical?"
    return "BLiMP", paragraphs(source, words, table(("phenomenon", "accuracy", "95%", "pairs"), rows))


def _choice(task: Value) -> tuple[str, str]:
    rows = [
        ("Accuracy", _share(task["accuracy"], task["accuracy_low"], task["accuracy_high"])),
        (
            "... by log-probability per byte",
            _share(task["accuracy_per_byte"], task["accuracy_per_byte_low"], task["accuracy_per_byte_high"]),
        ),
        ("A guess is right", f"{task['chance']:.1%}"),
        ("Questions", f"{task['num_questions']:,}; {_started(task)}"),
    ]
    return f"Multiple choice: {plain(data_name(task['data']))}", facts(rows)


def _lambada(task: Value) -> tuple[str, str]:
    rows = [
        ("Accuracy of the last word", _share(task["accuracy"], task["accuracy_low"], task["accuracy_high"])),
        ("Perplexity of the last word", f"{task['word_perplexity']:.2f}"),
        ("Passages", f"{task['num_passages']:,}; {_started(task)}"),
    ]
    return "LAMBADA", facts(rows)


def _lm_eval(task: Value) -> tuple[str, str]:
    rows = [
        [plain(name), plain(metric), f"{number:.4f}", _error_of(values, metric)]
        for name, values in task["tasks"].items()
        for metric, number in values.items()
        if isinstance(number, float) and "_stderr" not in metric
    ]
    words = (
        f"[lm-eval](https://github.com/EleutherAI/lm-evaluation-harness) {plain(task['version'])}; {_started(task)}."
    )
    return "lm-eval", paragraphs(words, table(("task", "metric", "value", "standard error"), rows, numbers=(2, 3)))


def _error_of(values: Value, metric: str) -> str:
    name, _, way = metric.partition(",")
    error = values.get(f"{name}_stderr,{way}" if way else f"{name}_stderr")
    return f"{error:.4f}" if isinstance(error, float) else "-"


_TASKS: dict[str, Callable[[Value], tuple[str, str]]] = {
    "blimp": _blimp,
    "choice": _choice,
    "lambada": _lambada,
    "lm-eval": _lm_eval,
}


def _share(value: float, low: float, high: float) -> str:
    return f"**{value:.2%}** (95%: {low:.2%} to {high:.2%})"


def _started(task: Value) -> str:
    return _STARTS.get(task["start"], plain(task["start"]))


def comparison(material: Material) -> str:
    """Return other models beside this one, with what the comparison does not say; empty where none were measured."""
    parts = [found.read(_compared(found)) for found in material.results.of("compare")]
    if not parts:
        return ""
    caveats = bullets(
        [
            "Bits per byte compare models of any tokenizer on the same text; losses and perplexities do not.",
            "The models were trained on other texts, and other amounts: what is easy for one may be foreign to "
            "another, and one that has seen the text, or text like it, has an advantage that no table shows.",
            "All were measured by the same program on the same bytes, each in windows of its own context; in float32, "
            "but for those that transformers or onnxruntime opened: in the numbers of their files.",
        ]
    )
    return paragraphs(*parts, "What this comparison does not say:", caveats)


def _compared(found: Found) -> Callable[[Value], str]:
    def shown(value: Value) -> str:
        rows = [
            [
                plain(_model_name(model["model"])),
                f"{model['num_parameters']:,}",
                f"{model['vocab_size']:,}",
                f"{model['context_length']:,}",
                *(_number(model, name) for name in ("bytes_per_token", "bits_per_byte")),
                *(_task_number(task) for task in model["tasks"]),
            ]
            for model in value["models"]
        ]
        tasks = [f"{_task_name(task)}" for task in value["models"][0]["tasks"]]
        heads = ("model", "parameters", "vocabulary", "context", "bytes per token", "bits per byte", *tasks)
        text = value.get("text")
        on = f"On {plain(found.name or data_name(text))}:" if text else ""
        return paragraphs(on, table(heads, rows), bullets(f"Note: {plain(note)}." for note in value["notes"]))

    return shown


def _model_name(model: str) -> str:
    """Return a Hub id, or the last part of a path."""
    name = model.removeprefix("transformers:").rstrip("/")
    return name if name.count("/") == 1 and not name.startswith((".", "/")) else name.rpartition("/")[2]


def _number(model: Value, name: str) -> str:
    return "-" if model.get(name) is None else f"{model[name]:.4f}"


def _task_name(task: Value) -> str:
    return {"blimp": "BLiMP", "lambada": "LAMBADA"}.get(task["task"]) or plain(data_name(task["data"]))


def _task_number(task: Value) -> str:
    if task["task"] == "lm-eval":
        values = (number for one in task["tasks"].values() for number in one.values() if isinstance(number, float))
        first = next(values, None)
        return "-" if first is None else f"{first:.4f}"
    return f"{task['blimp_accuracy' if task['task'] == 'blimp' else 'accuracy']:.2%}"


def seen_before(material: Material) -> str:
    """Return what evaluation texts share with the training text, and what of that the model says by heart."""
    overlaps = [found.read(_overlap) for found in material.results.of("contamination")]
    by_heart = [found.read(_by_heart) for found in material.results.of("memorization")]
    return paragraphs(
        "### Contamination",
        *(overlaps or [not_measured("contamination")]),
        "### Memorisation",
        *(by_heart or [not_measured("memorization")]),
    )


def _overlap(value: Value) -> str:
    above = value["documents_above"]
    rows = [
        ("Compared", f"{value['num_words']} words in a row ({plain(value['normalisation'])})"),
        ("Training text", f"{value['num_training_documents']:,} documents, {value['num_training_bytes']:,} bytes"),
        (
            "Evaluation documents",
            f"{value['num_documents']:,}, of which {value['num_short_documents']:,} are too short",
        ),
        ("... that share a run of words", f"{value['num_overlapping_documents']:,}"),
        *(
            (f"... more than {float(share):.0%} of theirs", f"{count:,}")
            for share, count in above.items()
            if share != "0.0"
        ),
        *(
            (f"Bits per byte of {plain(name)} documents", f"{loss['bits_per_byte']:.4f} ({loss['num_documents']:,})")
            for name, loss in value.get("losses", {}).items()
            if loss["bits_per_byte"] is not None
        ),
    ]
    return paragraphs(f"Evaluation text: {plain(data_name(str(value.get('text', ''))))}.", facts(rows))


def _by_heart(value: Value) -> str:
    text = plain(data_name(str(value["training"])))
    return paragraphs(f"Text: {text}.", facts(_heart_rows(value)), "The longest says:", fenced(value["longest_text"]))


def _heart_rows(value: Value) -> Iterator[tuple[str, str]]:
    yield (
        "Tried",
        f"{value['num_samples']:,} of {value['num_documents']:,} documents, each from a random place: "
        f"{value['num_prompt_tokens']} tokens are given, and greedy text is compared with what follows",
    )
    yield "Tokens that follow word for word, mean", f"{value['mean_tokens']:.2f}"
    for count, share in value["share_at_least"].items():
        yield f"... at least {count}", f"{share:.1%}"
    yield "Longest", f"{value['longest_tokens']} tokens, of {code(str(value['longest_document']).rpartition('/')[2])}"
