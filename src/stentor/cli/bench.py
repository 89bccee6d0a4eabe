"""stentor bench: how fast a model runs on this machine's CPU, in our engine and in the stock ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.bench.setting import ENGINES, Setting, Work
from stentor.cli.output import JsonFlag, ModelArgument, answer, talk
from stentor.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from stentor.model.weights import Weights

_QUICK = Work(prompt_lengths=(16, 128), positions=(16, 128), num_new_tokens=16, repeats=3)
ROUNDS, QUICK_ROUNDS = 3, 1


def bench(
    model: ModelArgument,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Only this one; may be repeated: {', '.join(ENGINES)}.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="So many threads; may be repeated. By default 1, 2, 4 .. all cores.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of little work, each engine in its usual setting.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into a .svg or .png.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Measure prompts, tokens, memory and start of our engine and the stock ones, beside what the memory allows.

    Takes some minutes; other work on the machine disturbs it. Example: stentor bench runs/tiny --quick
    """
    from stentor.bench.measure import run_bench
    from stentor.cli.bench_table import bench_table
    from stentor.doctor import machine_facts
    from stentor.model.weights import read_weights
    from stentor.report.engines import write_engines
    from stentor.report.tokenizers import plot_format

    if plot is not None:
        plot_format(plot)  # a wrong name is refused before the work
    weights, machine = read_weights(model), machine_facts()
    settings = _settings(engine or list(ENGINES), threads, quick=quick)
    measured = run_bench(
        weights, settings, _QUICK if quick else Work(), num_rounds=QUICK_ROUNDS if quick else ROUNDS, say=talk
    )
    if plot is not None:
        write_engines(measured, plot)
        talk(f"wrote {plot}")
    value = {"model": model, **_sizes(weights), "machine": machine, **measured.to_dict()}
    answer(bench_table(measured, machine), value, as_json=json_output)


def _settings(engines: list[str], threads: list[int] | None, *, quick: bool) -> list[Setting]:
    from stentor.bench.measure import settings_of, thread_counts
    from stentor.doctor import usable_cores

    for name in engines:
        if name not in ENGINES:
            raise UsageError(f"there is no engine {name!r}", fix=nearest_name(name, ENGINES))
    counts = sorted(set(threads)) if threads else thread_counts(max(1, int(usable_cores())))
    return [setting for name in dict.fromkeys(engines) for setting in settings_of(name, counts, quick=quick)]


def _sizes(weights: Weights) -> dict[str, int]:
    config = weights.config
    return {"num_parameters": config.num_parameters, "context_length": config.max_position_embeddings}
