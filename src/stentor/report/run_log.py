"""What a run wrote down in its `log.jsonl`, read whatever a crash did to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stentor.errors import UserError
from stentor.json_text import parse_json

Record = dict[str, Any]
_MAX_POINTS = 400
_SCALES = {
    "weights": {"qkv", "attention_out", "gate_up", "down", "attention_norm", "mlp_norm", "embedding", "final_norm"},
    "activations": {"attention", "mlp", "residual"},
}
"""What every network has; some have more."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """The records of a run in the order of their steps; a step that was repeated after a crash is there once.

    Attributes:
        train: one record per logged update, with `step`, `tokens_seen` and `loss_nats` at least.
        evaluations: one record per evaluation on held-out text, with `perplexity` and `bits_per_byte` too.
        scales: one record per evaluation, with `weights`, `activations` and `max_logit`; older logs have none.
        starts: one record per time the run was begun or gone on with.
    """

    train: tuple[Record, ...]
    evaluations: tuple[Record, ...]
    scales: tuple[Record, ...] = ()
    starts: tuple[Record, ...] = ()

    @property
    def best_evaluation(self) -> Record:
        """The evaluation with the lowest loss, the first of equals.

        Raises:
            UserError: the run was never evaluated.
        """
        if not self.evaluations:
            raise UserError("the run was not evaluated yet", fix="let it run until its first evaluation")
        return min(self.evaluations, key=lambda record: record["loss_nats"])

    @property
    def seconds(self) -> float:
        """Time that the updates took, without evaluations and checkpoints.

        A record stands for the updates since the one before it: a log may have been thinned out before it is shown.
        """
        steps = [0, *(record["step"] for record in self.train)]
        updates = (step - before for before, step in itertools.pairwise(steps))
        return math.fsum((record.get("seconds") or 0.0) * num for record, num in zip(self.train, updates, strict=True))

    @property
    def utilisation_per_rate(self) -> float | None:
        """Model FLOP utilisation of one token per second; None where a device's peak is not known, or they differ."""
        found = {(start.get("flops_per_token"), start.get("peak_flops")) for start in self.starts}
        if len(found) != 1:
            return None
        flops_per_token, peak_flops = found.pop()
        return flops_per_token / peak_flops if flops_per_token and peak_flops else None


def read_log(path: Path) -> RunLog:
    """Read the `log.jsonl` of a run that has ended, runs, or was killed.

    A line that a crash cut short, or that lacks a number, is passed over; so are kinds of records not known here.

    Raises:
        UserError: there is no such file, or nothing in it is a record of training.
    """
    by_step: dict[str, dict[int, Record]] = {kind: {} for kind in _CHECKS}
    try:
        with path.open("rb") as file:
            for record in _records(file):
                by_step[record["kind"]][record["step"]] = record
    except OSError as error:
        raise UserError(f"the log {path} cannot be read ({error.strerror})", fix="pass a run folder's log") from None
    if not by_step["train"] and not by_step["evaluation"]:
        raise UserError(f"{path} holds no record of a run", fix="pass the log.jsonl of a run that has begun")
    train, evaluations, scales, starts = ([found[step] for step in sorted(found)] for found in by_step.values())
    alike = tuple(record for record in scales if _shape_of(record) == _shape_of(scales[-1]))
    return RunLog(tuple(train), tuple(evaluations), alike, tuple(starts))


def series(records: Sequence[Record], name: str, *, along: str = "step") -> tuple[list[float], list[float]]:
    """Return places and values of one number of the records, neighbours averaged until few enough are left to draw.

    Args:
        records: of one kind.
        name: of the number; records where it is missing, null or not finite are passed over.
        along: of what gives the places, such as `step` or `tokens_seen`.
    """
    there = [record for record in records if _is_number(record.get(name))]
    width = -(-len(there) // _MAX_POINTS) or 1
    groups = [there[start : start + width] for start in range(0, len(there), width)]
    return [_mean(group, along) for group in groups], [_mean(group, name) for group in groups]


def _is_number(value: Any) -> bool:
    """Whether a value can be drawn: a number that is finite, also as a float."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _mean(records: Sequence[Record], name: str) -> float:
    return math.fsum(record[name] for record in records) / len(records)


def _records(lines: Iterable[bytes]) -> Iterable[Record]:
    for line in lines:
        try:
            record = parse_json(line)
            if type(record["step"]) is int and _CHECKS[record["kind"]](record):
                yield record
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue


def _has(*names: str, or_none: Sequence[str] = ()) -> Callable[[Record], bool]:
    """Return a check that each of these is there and finite, and so is each that may be missing or null."""

    def is_whole(record: Record) -> bool:
        others = [record[name] for name in or_none if record.get(name) is not None]
        return all(map(math.isfinite, [*(record[name] for name in names), *others]))

    return is_whole


def _has_scales(record: Record) -> bool:
    """Check that every scale is a number or null, or a list with such a one for each layer, equally many everywhere."""
    if not _SCALES["weights"] <= record["weights"].keys() or not _SCALES["activations"] <= record["activations"].keys():
        return False
    values = [*record["weights"].values(), *record["activations"].values(), record["max_logit"]]
    lists = [value for value in values if isinstance(value, list)]
    single = [value for value in values if not isinstance(value, list)]
    numbers = [number for group in (*lists, single) for number in group if number is not None]
    return math.isfinite(record["tokens_seen"]) and len(set(map(len, lists))) == 1 and all(map(math.isfinite, numbers))


def _shape_of(record: Record) -> list[tuple[str, int]]:
    """Return the names of scales, and of how many layers each is; unlike the last, a record cannot be drawn with it."""
    named = [*record["weights"].items(), *record["activations"].items()]
    return sorted((name, len(value) if isinstance(value, list) else 0) for name, value in named)


_CHECKS: dict[str, Callable[[Record], bool]] = {
    "train": _has("step", "tokens_seen", "loss_nats", or_none=("seconds", "tokens_per_second")),
    "evaluation": _has("step", "tokens_seen", "loss_nats", "perplexity", "bits_per_byte"),
    "scales": _has_scales,
    "start": _has("step", "num_parameters", or_none=("flops_per_token", "peak_flops")),
}
"""What makes a line a record of each kind that is read here, in the order of `RunLog`."""
