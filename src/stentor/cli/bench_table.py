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
            "floor: the time in which as many threads only read the bytes of a token, in percent of the time that the "
            "engine\ntakes; memory: the most, above that of a bare Python process; start: of the process, until the "
            "first token"
        )
    if bench.not_measured:
        parts.append("\n".join(f"not measured: {name}: {reason}" for name, reason in bench.not_measured.items()))
    return "\n\n".join(parts)


def _heads(result: Result) -> list[tuple[str, list[str]]]:
    lengths, positions = result.measured.prefill_seconds, result.measured.decode_seconds
    above = [*_spread("prompt, tokens/s", len(lengths)), *_spread("ms a token", len(positions))]
    above += [*_spread("floor", len(positions)), "", "", ""]
    below = [*(f"{length:,}" for length in lengths), *(f"at {position}" for position in positions)]
    below += [*(f"at {position}" for position in positions), "memory", "start"]
    return [("", above[: len(below) + 1]), ("", ["threads", *below])]


def _spread(head: str, count: int) -> list[str]:
    """Return a heading for so many columns; only the first shows it."""
    return [head, *[""] * (count - 1)]


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
