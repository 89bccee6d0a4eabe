"""A recipe by name to a trained model in one call: `stentor.train`, and what `stentor train` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stentor.config import Recipe
from stentor.prepare import StageProgress, Watch, default_data_dir, prepare
from stentor.train.distributed import joined
from stentor.train.log import Observer
from stentor.train.loop import train as train_on_shards


@contextlib.contextmanager
def unwatched(label: str) -> Iterator[StageProgress]:
    """Watch a data stage and show nothing."""
    yield lambda num_documents, num_bytes: None


def train(
    recipe: Recipe | str | Path,
    *,
    run_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: str = "auto",
    watch: Watch = unwatched,
    observer: Observer | None = None,
) -> Path:
    """Train a recipe, preparing its data first if need be; with the other processes that torchrun started, if any.

    Args:
        recipe: a recipe, a published one's name or a .toml file.
        run_dir: receives the run; `runs/NAME` by default.
        data_dir: holds corpus, tokenizer and shards; `data/NAME` by default.
        resume: `auto` goes on with a run that exists; `never` refuses it.
        watch: opens a display for a data stage, in the first process.
        observer: shown every record of the training log, in the first process.

    Returns:
        The run folder, which stands for its best checkpoint.

    Raises:
        UserError: the recipe, the text or an existing run does not allow it.
        InterruptedRunError: SIGINT or SIGTERM came; the run is saved.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    data, run = Path(data_dir or default_data_dir(loaded)), Path(run_dir or default_run_dir(loaded))
    with joined() as world:
        with world.in_turn():
            prepared = prepare(loaded, data, watch=watch if world.is_main else unwatched)
        return train_on_shards(loaded, prepared.shards, run, resume=resume, observer=observer, world=world)


def default_run_dir(recipe: Recipe) -> Path:
    """Return where a recipe's run lies."""
    return Path("runs") / recipe.name
