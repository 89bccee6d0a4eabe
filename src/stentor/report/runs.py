"""Runs beside each other: what came of each, in which settings they differ, and whether their numbers compare."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stentor.errors import UserError
from stentor.report.run_log import Record, RunLog, read_log
from stentor.train.log import LOG_NAME

RECIPE_NAME = "recipe.toml"
_NO_SETTINGS = ("name", "description")


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run as a comparison sees it.

    Attributes:
        name: under which it is shown.
        path: its folder.
        settings: of its recipe, by names such as `train.lr`.
        log: what it wrote down.
    """

    name: str
    path: Path
    settings: dict[str, Any]
    log: RunLog

    @property
    def start(self) -> Record:
        """What the run said of itself when it was last begun or gone on with; empty in a log that lost it."""
        return self.log.starts[-1] if self.log.starts else {}

    @property
    def last(self) -> Record:
        """The last evaluation; empty before the first."""
        return self.log.evaluations[-1] if self.log.evaluations else {}

    @property
    def best(self) -> Record:
        """The best evaluation; empty before the first."""
        return self.log.best_evaluation if self.log.evaluations else {}

    @property
    def tokens_per_second(self) -> float | None:
        """The median over all updates, which a slow first one does not move."""
        rates = [rate for record in self.log.train if (rate := record.get("tokens_per_second")) is not None]
        return statistics.median(rates) if rates else None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of a comparison by name, as `--json` prints them; None stands for what is not known."""
        rate, per_rate = self.tokens_per_second, self.log.utilisation_per_rate
        records = self.log.train or self.log.evaluations
        return {
            "run": str(self.path),
            "num_parameters": self.start.get("num_parameters"),
            "step": records[-1]["step"],
            "tokens_seen": records[-1]["tokens_seen"],
            "best_step": self.best.get("step"),
            "best_loss_nats": self.best.get("loss_nats"),
            "best_bits_per_byte": self.best.get("bits_per_byte"),
            "last_loss_nats": self.last.get("loss_nats"),
            "last_bits_per_byte": self.last.get("bits_per_byte"),
            "tokens_per_second": rate,
            "mfu": rate * per_rate if rate and per_rate else None,
            "seconds": round(self.log.seconds, 3),
        }


def open_run(name: str, path: Path) -> ComparedRun:
    """Read a run's recipe and log; the run may still go on.

    Raises:
        UserError: it is no run, or one that has not begun.
    """
    for needed in (RECIPE_NAME, LOG_NAME):
        if not (path / needed).is_file():
            raise UserError(
                f"{path} is no run: it has no {needed}",
                fix="name folders that stentor train made, such as runs/tiny, or compare models: --text, --task",
            )
    try:
        recipe = tomllib.loads((path / RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path / RECIPE_NAME} cannot be read: {error}", fix="name another run") from None
    return ComparedRun(name, path, _flat(recipe), read_log(path / LOG_NAME))


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, a value for each; None where a run has no such setting."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in _NO_SETTINGS)
    values = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def comparability(runs: Sequence[ComparedRun]) -> list[str]:
    """Say in a sentence each which runs cannot be compared with the first, in nats or at all."""
    sentences = []
    evaluated = [run for run in runs if run.last]
    for first, run in ((evaluated[0], run) for run in evaluated[1:]):
        if _held_out(run, first) == _held_out(first, run):
            continue
        if run.last.get("num_bytes") == first.last.get("num_bytes") and _tokenizer(run) != _tokenizer(first):
            sentences.append(f"{run.name} has another tokenizer than {first.name}: compare bits per byte, not nats")
        else:
            sentences.append(
                f"{run.name} was measured on other held-out text than {first.name}: "
                "neither their nats nor their bits per byte compare"
            )
    return sentences


def _held_out(run: ComparedRun, other: ComparedRun) -> Any:
    """Return what tells a run's held-out ids from another's: their checksum, or their counts where one has none."""
    if "held_out_sha256" in run.start and "held_out_sha256" in other.start:
        return run.start["held_out_sha256"]
    return run.last.get("num_tokens"), run.last.get("num_bytes")


def _tokenizer(run: ComparedRun) -> Any:
    return run.start.get("tokenizer_sha256"), run.last.get("num_tokens")


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
