"""Sections on what the model makes and how fast: samples, smaller forms, engines. Each is empty without its "
"results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stentor.report.card.markdown import bullets, code, fenced, paragraphs, plain, table
from stentor.report.card.metadata import data_name
from stentor.report.card.subject import Material

Value = Mapping[str, Any]
_ENDS = {
    "max_new_tokens": "cut off at the limit",
    "eos": "ended by the model itself",
    "stop": "ended before a stop text",
    "context": "ended with the context",
}
_NO_EFFECT: Mapping[str, Any] = {
    "max_new_tokens": None,
    "min_new_tokens": 0,
    "temperature": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": None,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "ignore_eos": False,
    "stop": [],
    "seed": None,
    "dtype": None,
    "cache_dtype": "float32",
    "num_threads": None,
    "device": None,
}
"""All that a text depends on, each with the value that is not worth a word."""


def samples(material: Material) -> str:
    """Return texts that the model made, with what they were made with and how fast."""
    found = material.results.of("generate")
    if not found:
        return ""
    words = "All that each command printed is here, unedited. The same settings and seed give the same text again."
    return paragraphs(words, *(paragraphs(*one.read(_sample)) for one in found))


def _sample(value: Value) -> list[str]:
    settings = value["settings"]
    used = [(name, settings.get(name, nothing)) for name, nothing in _NO_EFFECT.items()]
    parts = [
        f"**Prompt**: {code(value['prompt'], in_table=False)}",
        f"Settings: {', '.join(f'{name} {plain(str(value))}' for name, value in used if value != _NO_EFFECT[name])}",
    ]
    for completion in value["completions"]:
        parts += [fenced(completion["text"], "text"), _cost(completion)]
    return parts


def _cost(completion: Value) -> str:
    """Say how a text ended, and how fast it was made once its first token was there."""
    num_tokens, seconds = completion["num_new_tokens"], completion["decode_seconds"]
    rate = f", {(num_tokens - 1) / seconds:,.0f} tokens/s after the first" if num_tokens > 1 and seconds else ""
    end = _ENDS.get(completion["finish_reason"], plain(completion["finish_reason"]))
    return f"{num_tokens} token{'s' * (num_tokens != 1)}{rate}; {end}"


def quantization(material: Material) -> str:
    """Return what each smaller form costs and gives."""
    return paragraphs(*(found.read(_forms) for found in material.results.of("quantization")))


def _forms(value: Value) -> str:
    rows = [
        [
            plain(row["form"]),
            f"{row['size_bytes'] / 1e6:,.1f}",
            f"{row['bits_per_byte']:.4f}",
            f"{row['added_bits_per_byte']:+.4f}",
            "-" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}",
            plain(row["measured_in"]),
            f"{row['max_logit_difference']:.2g}",
        ]
        for row in value["rows"]
    ]
    heads = ("form", "MB on disk", "bits per byte", "added", "tokens/s", "in", "largest change of a logit")
    words = (
        f"On {value['num_tokens']:,} tokens ({value['num_bytes']:,} bytes) of {plain(data_name(value['text']))}; "
        f"tokens are made one by one in the program named, threads: {value['num_threads']}. "
        f"{_machine(value['machine'])}"
    )
    left_out = bullets(f"Not measured: {plain(form)}: {plain(why)}" for form, why in value["not_measured"].items())
    return paragraphs(table(heads, rows), words, left_out)


def engines(material: Material) -> str:
    """Return how fast the model runs on a CPU, in our engine and the stock ones."""
    return paragraphs(*(found.read(_engines) for found in material.results.of("bench")))


def _engines(value: Value) -> str:
    if not value["results"]:
        return ""
    first = value["results"][0]
    lengths, positions = list(first["prefill_tokens_per_second"]), list(first["decode_ms"])
    heads = (
        "engine",
        "threads",
        *(f"prompt of {length}, tokens/s" for length in lengths),
        *(f"tokens/s at {position}" for position in positions),
        "memory, MB",
        "start, s",
    )
    words = "Tokens a second: of a prompt by its length, of made text by its position. Memory: above a bare Python."
    left_out = bullets(f"Not measured: {plain(name)}: {plain(why)}" for name, why in value["not_measured"].items())
    rows = [list(_engine_row(row, lengths, positions)) for row in value["results"]]
    return paragraphs(table(heads, rows), words, _machine(value["machine"]), left_out)


def _engine_row(row: Value, lengths: list[str], positions: list[str]) -> Iterator[str]:
    yield plain(row["name"])
    yield f"{row['num_threads']}"
    yield from (f"{row['prefill_tokens_per_second'][length]:,.0f}" for length in lengths)
    yield from (f"{1e3 / row['decode_ms'][position]:,.0f}" for position in positions)
    yield "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.1f}"
    yield f"{row['cold_start_seconds']:.2f}"


def _machine(machine: Mapping[str, str]) -> str:
    """Name the machine of a measurement; how busy it was is part of its word on cores."""
    return f"Machine: {plain(machine['CPU'])}, cores: {plain(machine['cores'])}; {plain(machine['versions'])}."
