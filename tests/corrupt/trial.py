"""Damage each format's file in every way, open it, and judge what came of it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damage import Damaged
from doors import Content
from formats import Format
from rules import differing
from samples import make_samples
from sealing import seal_anew
from worker import FIRST_SECONDS, FLOOR_BYTES, Worker

from stentor.artifacts import MANIFEST_NAME

TIMES_THE_FILE = 4
MAX_MESSAGE = 1500
REFUSED, HARMLESS, OTHER = "refused", "harmless", "other content"
_FIELD = re.compile(r"\b(model|train|text|tokenizer|name|description|recipe|carrier|num_\w+|head_dim)\b")


@dataclass(slots=True)
class Tally:
    """What came of the damaged files of one format or of several.

    Attributes:
        outcomes: files by kind of damage and what came of it.
        failures: a line for each file that broke the rule.
        max_seconds: of one file.
        max_bytes: of memory, beyond what the process had before the file was opened.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    max_seconds: float = 0.0
    max_bytes: int = 0

    def add(self, other: Tally) -> None:
        """Take in what came of more files."""
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.max_seconds = max(self.max_seconds, other.max_seconds)
        self.max_bytes = max(self.max_bytes, other.max_bytes)

    def by_outcome(self) -> Counter[str]:
        """Return how many files ended in which way."""
        totals: Counter[str] = Counter()
        for (_, outcome), count in self.outcomes.items():
            totals[outcome] += count
        return totals


def try_format(
    chosen: Format, samples: Path, siblings: Path, place: Path, worker: Worker, *, seed: int, count: int
) -> Tally:
    """Try so many damages of each kind, and return what came of them.

    Args:
        chosen: the format.
        samples: sound files.
        siblings: sound files of the same kinds.
        place: a folder that is made anew.
        worker: opens them.
        seed: of all choices.
        count: of each kind of damage.
    """
    folder = place / chosen.folder if chosen.folder != "." else place / "all"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(samples / chosen.folder, folder)
    file, opens, tally = folder / chosen.file, folder / chosen.opens, Tally()
    sound = file.read_bytes()
    if chosen.seal == "none":
        assert not (file.parent / MANIFEST_NAME).exists() or chosen.file == "tokenmonster.vocab"
        (file.parent / MANIFEST_NAME).unlink(missing_ok=True)
    before = worker.open(chosen.door, opens, seconds=FIRST_SECONDS)
    assert before["outcome"] == "opened", before
    for damaged in _distinct(sound, chosen.all_damages(samples, siblings, seed, count)):
        file.write_bytes(damaged.data)
        if chosen.seal == "renewed":
            seal_anew(file)
        report = worker.open(chosen.door, opens)
        outcome, fault = judged(report, chosen, file, sound, damaged.data, before["content"])
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        fault = fault or _too_much(report, size)
        tally.outcomes[damaged.kind, outcome] += 1
        tally.max_seconds = max(tally.max_seconds, report["seconds"]) if "seconds" in report else tally.max_seconds
        tally.max_bytes = max(tally.max_bytes, report.get("num_bytes", 0))
        if fault:
            tally.failures.append(f"{chosen.name}, {damaged.kind}: {fault} [{_shown(sound, damaged.data)}]")
    return tally


def try_all(
    formats: Sequence[Format],
    folder: Path,
    *,
    seeds: Iterable[int],
    count: int,
    on_format: Callable[[str], object] = str,
) -> dict[str, Tally]:
    """Try formats with every seed, and return what came of each.

    Args:
        formats: to try.
        folder: an empty one, for all files.
        seeds: of the damages.
        count: damages of each kind for each seed.
        on_format: told the name of each before it is tried.

    Raises:
        AssertionError: something that was pickled was unpickled.
    """
    folder.mkdir(exist_ok=True)
    samples, siblings = (make_samples(folder / f"samples-{seed}", seed=seed) for seed in (0, 1))
    worker, tallies = Worker(folder / "worker"), {chosen.name: Tally() for chosen in formats}
    try:
        for chosen in formats:
            on_format(chosen.name)
            for seed in seeds:
                found = try_format(chosen, samples, siblings, folder / "tried", worker, seed=seed, count=count)
                tallies[chosen.name].add(found)
    finally:
        worker.close()
    assert not list(folder.rglob("unpickled"))
    return tallies


def _distinct(sound: bytes, damages: Iterator[Damaged]) -> Iterator[Damaged]:
    seen = {sound}
    for damaged in damages:
        if damaged.data not in seen:
            seen.add(damaged.data)
            yield damaged


def judged(
    report: dict[str, Any], chosen: Format, file: Path, sound: bytes, damaged: bytes, before: Content
) -> tuple[str, str]:
    """Return what came of a file, and what is wrong with that; nothing if it is as it should be."""
    if report["outcome"] == "refused":
        return REFUSED, _fault_of_message(report, file)
    if report["outcome"] != "opened":
        return report["outcome"], f"{report}"
    if not (parts := differing(before, report["content"])):
        return HARMLESS, ""
    if chosen.may_differ(sound, damaged, before, report["content"]):
        return OTHER, ""
    return "wrong", f"opened, but other than before: {sorted(parts)[:6]}"


def _fault_of_message(report: dict[str, Any], file: Path) -> str:
    message, fix = report["message"], report["fix"]
    if report["kind"] not in ("UserError", "CorruptArtifactError"):
        return f"refused as {report['kind']}: {message}"
    if not (
        str(file.parent) in message or file.name in message or (file.suffix == ".toml" and _FIELD.search(message + fix))
    ):
        return f"the message names neither the file nor a field: {message}"
    if not fix or len(message) > MAX_MESSAGE or "\n" in message:
        return f"the message is no sentence with a fix: {message[:2000]!r}, {fix!r}"
    return ""


def _too_much(report: dict[str, Any], size: int) -> str:
    allowed = TIMES_THE_FILE * size + FLOOR_BYTES
    if report.get("num_bytes", 0) > allowed:
        return f"took {report['num_bytes']} bytes of memory, {allowed} are allowed"
    return ""


def _shown(sound: bytes, damaged: bytes) -> str:
    """Show where a damaged file begins to differ."""
    place = next(
        (i for i, (a, b) in enumerate(zip(sound, damaged, strict=False)) if a != b), min(len(sound), len(damaged))
    )
    return (
        f"{len(damaged)} bytes, at {place}: {sound[place - 10 : place + 30]!r} -> {damaged[place - 10 : place + 30]!r}"
    )
