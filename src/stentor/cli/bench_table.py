"""How a bench is printed: a line for each setting and number of threads."""

from __future__ import annotations

from collections.abc import Mapping

from stentor.bench.measure import Bench, Result
from stentor.cli.output import columns, size, table


def bench_table(bench: Bench, machine: Mapping[str, str]) -> str:
    """Return the machine, the table, and what was not measured."""
    parts = [table(machine)]
    if bench.results:
        parts.append(columns([*_heads(bench.results[0]), *(_row(result) for result in bench.results)]))
        parts.append(
            "prompt: tokens per second, by its length; token: milliseconds, by its position; floor: the time in which\n"
            "as many threads only read the bytes of such a token, as a share of the engine's; memory: the most, above\n"
            "that of a bare Python process; start: of the process, until its first token"
        )
    if bench.not_measured:
        parts.append("\n".join(f"not measured: {name}: {reason}" for name, reason in bench.not_measured.items()))
    return "\n\n".join(parts)


def _heads(result: Result) -> list[tuple[str, list[str]]]:
    lengths, positions = list(result.measured.prefill_seconds), list(result.measured.decode_seconds)
    heads = [("", ""), *_under("prompt", lengths), *_under("token", positions), *_under("floor", positions)]
    heads += [("", ""), ("", "")]
    return [
        ("", [above for above, _ in heads]),
        ("", ["threads", *(below for _, below in heads[1:-2]), "memory", "start"]),
    ]


def _under(head: str, numbers: list[int]) -> list[tuple[str, str]]:
    """Return two lines of headings, the first of which stands once."""
    return [(head if index == 0 else "", f"{number:,}") for index, number in enumerate(numbers)]


def _row(result: Result) -> tuple[str, list[str]]:
    measured = result.measured
    cells = [
        f"{result.setting.num_threads}",
        *(f"{length / seconds:,.0f}" for length, seconds in measured.prefill_seconds.items()),
        *(f"{1e3 * seconds:.3f}" for seconds in measured.decode_seconds.values()),
        *(f"{result.share_of_floor(position):.0%}" for position in measured.decode_seconds),
        "-" if measured.peak_bytes is None else size(measured.peak_bytes),
        f"{measured.cold_start_seconds:.2f} s",
    ]
    return result.setting.name, cells
