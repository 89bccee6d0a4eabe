"""How a comparison of a model's forms is printed: a line for each."""

from __future__ import annotations

from collections.abc import Mapping

from stentor.bench.quantization import Quantizations, Row
from stentor.cli.output import columns, size, table


def quantization_table(measured: Quantizations, machine: Mapping[str, str]) -> str:
    """Return the machine, the table, what its numbers are, and what was not measured."""
    heads = ("", ["on disk", "bits/byte", "added", "tokens/s", "in", "logits"])
    parts = [
        table(machine),
        columns([heads, *(_row(row) for row in measured.rows)]),
        f"on {measured.num_tokens:,} tokens, {size(measured.num_bytes)}, of {measured.text}; "
        f"threads: {measured.num_threads}\n"
        "added: to the bits per byte of float32; tokens/s: made one by one after 128, in the program named;\n"
        "logits: the largest difference of any logit from float32's. Forms without a file of their own (dynamic int8,\n"
        "bitsandbytes, stentor) are made as the float32 folder is opened, so that their bytes on disk are its",
    ]
    if measured.not_measured:
        parts.append("\n".join(f"not measured: {name}: {reason}" for name, reason in measured.not_measured.items()))
    return "\n\n".join(parts)


def _row(row: Row) -> tuple[str, list[str]]:
    speed = "-" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}"
    cells = [size(row.size_bytes), f"{row.bits_per_byte:.4f}", f"{row.added_bits_per_byte:+.4f}", speed]
    return row.form, [*cells, row.measured_in, f"{row.max_logit_difference:.2g}"]
