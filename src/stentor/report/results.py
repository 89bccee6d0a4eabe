"""A run's evaluations as a table: what a model card shows of a training."""

from __future__ import annotations

from collections.abc import Iterator

from stentor.report.run_log import RunLog

COLUMNS = ("step", "tokens", "loss, nats per token", "perplexity", "bits per byte", "")


def result_rows(log: RunLog) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of each evaluation under `COLUMNS`, and whether it is the best."""
    best = log.best_evaluation if log.evaluations else None
    for record in log.evaluations:
        is_best = record is best
        marks = ["best"] * is_best + ["last"] * (record is log.evaluations[-1])
        yield (
            (
                f"{record['step']:,}",
                f"{record['tokens_seen']:,}",
                f"{record['loss_nats']:.4f}",
                f"{record['perplexity']:,.2f}",
                f"{record['bits_per_byte']:.4f}",
                ", ".join(marks),
            ),
            is_best,
        )


def results_table(log: RunLog) -> str:
    """Return the evaluations as a Markdown table, the best one in bold."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| ---: | ---: | ---: | ---: | ---: | --- |"]
    for cells, is_best in result_rows(log):
        shown = [f"**{cell}**" if is_best and cell else cell for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
