"""stentor train: shards and a recipe become a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.cli.output import JsonFlag, SetOption, answer, duration, size, table, talk
from stentor.cli.prepare import DataOption, RecipeArgument, watch
from stentor.cli.progress import TrainingDisplay, meter

if TYPE_CHECKING:
    from stentor.config import Recipe
    from stentor.train.plan import Plan


class Track(StrEnum):
    """Where to follow a run, beside the terminal."""

    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"


class Resume(StrEnum):
    """What to do with a run that exists."""

    AUTO = "auto"
    NEVER = "never"


def train(
    recipe: RecipeArgument,
    run: Annotated[Path | None, typer.Option(help="The run folder.", show_default="runs/RECIPE")] = None,
    data: DataOption = None,
    resume: Annotated[
        Resume, typer.Option(help="auto goes on with a run that exists; never refuses it.")
    ] = Resume.AUTO,
    track: Annotated[
        list[Track] | None, typer.Option(help="Send the run's numbers there too; may be repeated.", show_default=False)
    ] = None,
    overrides: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Train a model; prepares the data first if need be. Stop with Ctrl-C, go on with the same command.

    Example: stentor train tiny --run runs/tiny
    On two devices: torchrun --nproc-per-node 2 -m -- stentor train tiny
    """
    from stentor.config import Recipe
    from stentor.run import default_run_dir
    from stentor.train.distributed import joined
    from stentor.train.plan import plan

    with joined() as world:
        loaded = Recipe.load(recipe, overrides=overrides or ())
        if dry_run:
            planned = plan(loaded, world)
            if world.is_main:
                answer(_plan_text(planned, loaded.to_toml()), planned.to_dict(), as_json=json_output)
            return
        run_dir = run or default_run_dir(loaded)
        _follow(loaded, run_dir, data, resume, track or () if world.is_main else ())
    if world.is_main:
        _report(run_dir, json_output)


def _report(run_dir: Path, json_output: bool) -> None:
    """Draw what a run's log holds and say what is best in it."""
    from stentor.errors import MissingDependencyError
    from stentor.report.folder import write_report
    from stentor.report.run_log import read_log
    from stentor.train.log import LOG_NAME

    log = read_log(run_dir / LOG_NAME)
    try:
        write_report(log, run_dir)
    except MissingDependencyError as error:
        talk(f"no curves: {error}")
    best = log.best_evaluation
    value = {"run": str(run_dir), "best_step": best["step"], **{key: best[key] for key in _SHOWN}}
    text = table(
        {
            "run": run_dir,
            "best step": f"{best['step']:,}",
            "loss": f"{best['loss_nats']:.4f} nats/token",
            "perplexity": f"{best['perplexity']:.2f}",
            "bits per byte": f"{best['bits_per_byte']:.4f}",
        }
    )
    answer(text, value, as_json=json_output)


def _follow(recipe: Recipe, run_dir: Path, data: Path | None, resume: Resume, track: Sequence[Track]) -> None:
    """Train, and show the run as it goes: here, and where else it was asked for."""
    from stentor.run import train as train_recipe
    from stentor.train.log import to_all
    from stentor.train.trackers import tracker

    with ExitStack() as stack:
        trackers = [stack.enter_context(tracker(name, run_dir)) for name in track]
        show = TrainingDisplay(stack.enter_context(meter("training")))
        train_recipe(
            recipe, run_dir=run_dir, data_dir=data, resume=resume, watch=watch, observer=to_all((show, *trackers))
        )


_SHOWN = ("loss_nats", "perplexity", "bits_per_byte", "num_tokens", "num_bytes")


def _plan_text(planned: Plan, recipe_toml: str) -> str:
    several = planned.num_processes > 1
    rows = {
        "parameters": f"{planned.num_parameters:,}",
        "tokens": f"{planned.num_tokens:,}",
        "steps": f"{planned.num_steps:,}, the last one of {planned.last_step_tokens:,} tokens",
        "device": f"{planned.device}, {planned.precision}" + f", {planned.num_processes} processes" * several,
        "memory": f"about {size(planned.memory_bytes)}" + " in each process" * several,
        "time": f"about {duration(planned.seconds)} at {planned.tokens_per_second:,.0f} tokens/s (measured just now)",
        "disk": f"about {size(planned.disk_bytes)} for the checkpoints",
    }
    return f"{recipe_toml}\n{table(rows)}"
