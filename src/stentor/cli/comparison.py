"""How a comparison of tokenizers is printed: a column for each, and the same numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stentor.cli.output import columns
from stentor.tokenizer.compare import BAND_NAMES, CONTEXT_TOKENS, HIDDEN_SIZE, Comparison


def comparison_table(comparison: Comparison) -> str:
    """Return a table with a column for each tokenizer, and one of what their vocabularies share."""
    reports = comparison.reports.values()
    rows: list[tuple[str, list[str]]] = [
        ("", list(comparison.reports)),
        ("tokens in the vocabulary", [f"{report.vocab_size:,}" for report in reports]),
        ("bytes per token", [f"{report.bytes_per_token:.3f}" for report in reports]),
        (f"bytes in {CONTEXT_TOKENS:,} tokens", [f"{report.context_bytes:,}" for report in reports]),
        (f"embedding, {HIDDEN_SIZE} wide", [f"{report.embedding_parameters:,}" for report in reports]),
        ("encoding, one thread", [f"{report.encode_mb_per_second:.1f} MB/s" for report in reports]),
        ("documents kept exactly", [_share(report.num_exact_documents, report.num_documents) for report in reports]),
        ("... up to decomposition", [_share(report.num_equal_documents, report.num_documents) for report in reports]),
        ("bytes without a token", [f"{report.num_lost_bytes:,}" for report in reports]),
        ("", []),
        ("tokens per word, by rank", []),
    ]
    for band, name in enumerate(BAND_NAMES):
        values = [report.tokens_per_word[band] for report in reports]
        rows.append((f"  {name}", ["-" if value is None else f"{value:.3f}" for value in values]))
    if len(comparison.reports) > 1:
        rows += [("", []), ("share of its tokens that are in", [])]
        for other in comparison.reports:
            shares = ["" if name == other else f"{comparison.shared[name, other]:.1%}" for name in comparison.reports]
            rows.append((f"  {other}", shares))
    return "\n".join([columns(rows), *_verdict(comparison)])


def _verdict(comparison: Comparison) -> list[str]:
    """Say in a sentence what each gives and costs beside the first."""
    (first, beside), *others = comparison.reports.items()
    lines = [""] if others else []
    for name, report in others:
        gain = report.bytes_per_token / beside.bytes_per_token - 1
        cost = report.embedding_parameters - beside.embedding_parameters
        lines.append(
            f"{name} carries {abs(gain):.1%} {'more' if gain >= 0 else 'fewer'} bytes a token than {first},"
            f" for {abs(cost):,} {'more' if cost >= 0 else 'fewer'} embedding parameters"
        )
    return lines


def comparison_value(comparison: Comparison, text: str, paths: Sequence[str]) -> dict[str, Any]:
    """Return the same as an object for JSON; tokenizers are named as the user gave them."""
    path_of = dict(zip(comparison.reports, paths, strict=True))
    return {
        "text": text,
        "tokenizers": [{"tokenizer": path_of[name], **report.to_dict()} for name, report in comparison.reports.items()],
        "bands": list(BAND_NAMES),
        "words_by_band": list(comparison.words_by_band),
        "shared": [
            {"tokenizer": path_of[one], "with": path_of[other], "share": share}
            for (one, other), share in comparison.shared.items()
        ],
    }


def _share(count: int, total: int) -> str:
    return f"{count / total:.2%}"
