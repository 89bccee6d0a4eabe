"""stentor train: shards and a recipe become a run folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.cli.output import JsonFlag, SetOption, answer, duration, size, table, talk
from stentor.cli.prepare import DataOption, RecipeArgument, watch
from stentor.cli.progress import TrainingDisplay, meter

if TYPE_CHECKING:
    from stentor.train.plan import Plan


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
    overrides: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Train a model; prepares the data first if need be. Stop with Ctrl-C, go on with the same command.

    Example: stentor train tiny --run runs/tiny
    On two devices: torchrun --nproc-per-node 2 -m stentor train tiny
    """
    from stentor.config import Recipe
    from stentor.run import default_run_dir
    from stentor.run import train as train_recipe
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
        with meter("training") as shown:
            show = TrainingDisplay(shown)
            train_recipe(loaded, run_dir=run_dir, data_dir=data, resume=resume, watch=watch, observer=show)
    if world.is_main:
        _report(run_dir, json_output)


def _report(run_dir: Path, json_output: bool) -> None:
    """Draw the curves of a run and say what is best in it."""
    from stentor.errors import MissingDependencyError
    from stentor.report.curves import read_log, write_curves
    from stentor.train.log import LOG_NAME

    log = read_log(run_dir / LOG_NAME)
    try:
        write_curves(log, run_dir / "report")
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
