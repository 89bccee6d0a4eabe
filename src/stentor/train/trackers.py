"""A run's records in TensorBoard or trackio too: observers of the log, which stays the one that counts.

What a resumed run makes again is there once. TensorBoard is told from which step on to forget; trackio is not sent what
the log held already when the run went on, since its bits are the same.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from stentor.errors import UserError, missing_extra, nearest_name
from stentor.train.log import Observer, Record, records_of

TENSORBOARD_NAME = "tensorboard"
TRACKIO_PROJECT = "stentor"
_HELD_OUT = ("loss_nats", "perplexity", "bits_per_byte")
_UPDATE = ("loss_nats", "lr", "grad_norm", "tokens_per_second")


def tracker(name: str, run_dir: Path) -> AbstractContextManager[Observer]:
    """Return a context whose value follows a run; at its end everything is written.

    Args:
        name: `tensorboard`, whose events go to `run_dir/tensorboard`, or `trackio`, whose project `stentor` on this
            machine gets a run named after the folder.
        run_dir: the run's folder, before the run is begun or gone on with.

    Raises:
        UserError: there is no tracker of that name.
        MissingDependencyError: its package is not installed.
    """
    if name not in _TRACKERS:
        raise UserError(f"no tracker named {name!r}", fix=nearest_name(name, _TRACKERS))
    return _TRACKERS[name](run_dir)


def metrics(record: Record) -> dict[str, float]:
    """Return the numbers of a record by the names that trackers show them under; none for other kinds of records."""
    kind = record["kind"]
    if kind == "train":
        found = {f"train/{name}": record[name] for name in _UPDATE}
    elif kind == "evaluation":
        found = {f"held_out/{name}": record[name] for name in _HELD_OUT}
    elif kind == "scales":
        found = {"activations/max_logit": record["max_logit"]}
        for group in ("weights", "activations"):
            for name, values in record[group].items():
                found |= _by_layer(f"{group}/{name}", values)
    else:
        found = {}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _by_layer(name: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, list):
        return {name: values}
    return {f"{name}/{layer:02d}": value for layer, value in enumerate(values, start=1)}


@contextlib.contextmanager
def _tensorboard(run_dir: Path) -> Iterator[Observer]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard", needed_for="following a run in TensorBoard") from None
    writers: list[SummaryWriter] = []

    def follow(record: Record) -> None:
        if record["kind"] == "start":
            writers.append(SummaryWriter(str(run_dir / TENSORBOARD_NAME), purge_step=record["step"] + 1))
        for name, value in metrics(record).items():
            writers[-1].add_scalar(name, value, record["step"])
        if record["kind"] == "saved":
            writers[-1].flush()

    try:
        yield follow
    finally:
        for writer in writers:
            writer.close()


@contextlib.contextmanager
def _trackio(run_dir: Path) -> Iterator[Observer]:
    try:
        import trackio  # pyright: ignore[reportMissingImports]  # no development package: see pyproject.toml
    except ImportError:
        raise missing_extra("trackio", "trackio", needed_for="following a run in trackio") from None
    sent = {(record["kind"], record.get("step")) for record in records_of(run_dir)}

    has_begun = False

    def follow(record: Record) -> None:
        nonlocal has_begun
        if record["kind"] == "start":
            recipe = tomllib.loads((run_dir / "recipe.toml").read_text(encoding="utf-8"))
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for answers
                trackio.init(
                    TRACKIO_PROJECT,
                    name=run_dir.resolve().name,
                    resume="allow" if sent else "never",
                    config=recipe,
                    embed=False,
                )
            has_begun = True
        elif (record["kind"], record.get("step")) not in sent and (found := metrics(record)):
            trackio.log(found, step=record["step"])

    try:
        yield follow
    finally:
        if has_begun:
            with contextlib.redirect_stdout(sys.stderr):
                trackio.finish()


_TRACKERS: dict[str, Callable[[Path], AbstractContextManager[Observer]]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
}
