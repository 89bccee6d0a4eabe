"""Claim: the model that ships with Stentor, its training and what it reaches on text that nobody trained on.

usage: python benchmarks/flagship.py LOGS MODEL TEXT     (LOGS: NAME.jsonl of the run and of its teachers; edu-val)

MODEL is measured as it ships, by the engine that reads it, on the documents of even and of odd number apart; nothing
was tuned on either half alone. The run's own evaluation is in float32. Writes the table of the run as
`docs/results/stentor-12m.md`, and its log (every evaluation, every 50th update) and recipe in `results/stentor-12m/`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, Claim, record

import stentor
from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.report.run_log import RunLog
from stentor.text.sources import read_texts

NAME, LIMIT, TARGET = "stentor-12m", 1.14, 1.10
TABLE = Path(__file__).parents[1] / "docs" / "results" / f"{NAME}.md"
EVERY = 50
HEAD = """# stentor-12m: how it was trained

Held-out text: edu-val, 1,990 documents, 15.8 MB, of the sources that the training text comes from, no document in both.
`benchmarks/flagship.py` made this page from the logs of the runs.

The text: 50,526 documents, 407 MB, 103.9M tokens of its own BPE of 8,000. By bytes: English Wikipedia 47 %
(CC BY-SA 3.0), books in the public domain 24 %, OpenStax textbooks 10 % (CC BY 4.0), arXiv abstracts 5 % (CC0), MedQuAD
4 % (CC BY 4.0), and manuals, course texts and government pages under CC0, CC BY, CC BY-SA, MIT and Apache 2.0.

## Teachers

| run | parameters | tokens | bits per byte | device | minutes |
| --- | ---: | ---: | ---: | --- | ---: |
"""
MIDDLE = """
## The model

It begins as a part of its first teacher, and learns from all four, which were asked once
([decision 12](../decisions/0012-teachers-asked-once.md)): {tokens:,} tokens, {epochs:.1f} times over its text, in
{minutes:.1f} minutes of updates on {processes} x {device}.

| step | tokens | loss, nats per token | perplexity | bits per byte |
| ---: | ---: | ---: | ---: | ---: |
"""

TAIL = """
## What was measured of it

Its card, `src/stentor/models/stentor-12m/README.md`, is written by `stentor card` from the log, the recipe, `card.toml`
and the files of `results/` in `benchmarks/results/stentor-12m/`; a test writes it once more and compares. `measure.sh`
there has every command, and `train.sh` those that trained it. Memorisation was measured on the first 4,000 documents of
`edu-train-000`.
"""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a finished run, a step that was repeated once."""
    by_step: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        by_step[entry["kind"], entry.get("step", 0)] = entry
    entries = list(by_step.values())
    if not any(entry["kind"] == "finished" for entry in entries):
        sys.exit(f"{path} has not finished: train it to its end first")
    return entries


def of_kind(entries: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind."""
    return [entry for entry in entries if entry["kind"] == kind]


def minutes(entries: list[dict[str, Any]]) -> float:
    """Return the time of all updates."""
    return RunLog(tuple(of_kind(entries, "train")), ()).seconds / 60


def page(run: list[dict[str, Any]], teachers: dict[str, list[dict[str, Any]]]) -> str:
    """Return the page that shows how the model came about."""
    rows = []
    for name, entries in teachers.items():
        start, end = of_kind(entries, "start")[0], of_kind(entries, "evaluation")[-1]
        rows.append(
            f"| {name} | {start['num_parameters']:,} | {end['tokens_seen']:,} | {end['bits_per_byte']:.4f} | "
            f"{start['device_name']} | {minutes(entries):.1f} |"
        )
    start, evaluations = of_kind(run, "start")[0], of_kind(run, "evaluation")
    middle = MIDDLE.format(
        tokens=evaluations[-1]["tokens_seen"], epochs=start["num_epochs"], minutes=minutes(run),
        processes=start["num_processes"], device=start["device_name"],
    )  # fmt: skip
    curve = [
        f"| {e['step']:,} | {e['tokens_seen']:,} | {e['loss_nats']:.4f} | {e['perplexity']:.2f} "
        f"| {e['bits_per_byte']:.4f} |"
        for e in evaluations
    ]
    return HEAD + "\n".join(rows) + "\n" + middle + "\n".join(curve) + "\n" + TAIL


def main() -> None:
    """Measure the model and write what came of it."""
    logs, model, text = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    run = read_log(logs / f"{NAME}.jsonl")
    teachers = {path.stem: read_log(path) for path in sorted(logs.glob("teacher-*.jsonl"))}
    kept = [e for e in run if e["kind"] != "train" or e["step"] % EVERY == 0 or e["step"] == 1]
    write_file(RESULTS / NAME / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in kept))
    write_file(RESULTS / NAME / "recipe.toml", Recipe.load(NAME).to_toml())
    write_file(TABLE, page(run, teachers))
    documents = list(read_texts(text))
    loaded = stentor.load(model)
    halves = {half: stentor.evaluate(loaded, documents[start::2]) for start, half in enumerate(("even", "odd"))}
    end = of_kind(run, "evaluation")[-1]["bits_per_byte"]
    unit = "bits per byte"
    claims = [
        Claim(what="held-out text, float32, the end of the run", value=end, unit=unit, better="lower", target=TARGET),
        *(
            Claim(
                what=f"held-out text as it ships, documents of {half} number",
                value=found.bits_per_byte, unit=unit, better="lower", target=LIMIT,
            )
            for half, found in halves.items()
        ),
    ]  # fmt: skip
    sys.argv[1:] = ["LOGS", "MODEL", "TEXT"]
    print(record("flagship", claims, {half: found.to_dict() for half, found in halves.items()}).read_text())


if __name__ == "__main__":
    main()
