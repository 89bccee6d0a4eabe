"""Claim: the faithful recipe, trained over its whole budget, against the table of the reference's card, step by step.

usage: python benchmarks/reference_run.py RUN        (a finished run of the recipe stentor2-12m)

Writes the table as `docs/results/stentor2-12m.md`, and the log beside the other results: every evaluation, every 50th
update. The card's held-out text is another sample of the same source, and the variant of its vocabulary is not known:
perplexities of tokens compare in shape, not to the digit. Bits per byte depend on no vocabulary; the card has none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, Claim, record

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.model.folder import read_model_folder

RECIPE = "stentor2-12m"
TABLE = Path(__file__).parents[1] / "docs" / "results" / f"{RECIPE}.md"
EVERY = 50
CARD = {
    375: ("Initial", 7.1108, "~1,228"),
    1_500: ("Early", 5.4646, "~236"),
    3_375: ("Mid", 4.6069, "~100"),
    6_750: ("Mid-Late", 4.1789, "~65"),
    9_375: ("Late", 4.0686, "~58"),
    11_625: ("Best Checkpoint", 3.9145, "~50.1"),
    14_649: ("Final Epoch", 4.0083, "55.05"),
}
"""Stentor2-12M-Preview's results: step to name, loss in nats per token and perplexity, as printed."""
CARDS_BEST_NATS = min(nats for _, nats, _ in CARD.values())
HEAD = """# stentor2-12m, beside its card

{sentence}

| checkpoint | step | tokens | loss | perplexity | bits per byte | card: loss | card: perplexity |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def read_run(run: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the log of a finished run of the recipe, a step that was repeated once, and what its vocabulary is."""
    recipe = Recipe.load(run / "recipe.toml")
    if recipe.name != RECIPE:
        sys.exit(f"{run} is a run of {recipe.name}, not of {RECIPE}")
    by_step: dict[tuple[str, int], dict[str, Any]] = {}
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        by_step[entry["kind"], entry.get("step", 0)] = entry
    entries = list(by_step.values())
    if not any(entry["kind"] == "finished" for entry in entries):
        sys.exit(f"{run} has not finished: train it to its end first")
    tokenizer = read_model_folder(run).require_tokenizer()
    return entries, f"{type(tokenizer).__name__.removesuffix('Tokenizer')}, {tokenizer.vocab_size:,} tokens"


def row(evaluation: dict[str, Any], *, is_best: bool) -> str:
    """Return an evaluation as a row of the table, the card's beside it where it has that step."""
    name, nats, perplexity = CARD.get(evaluation["step"], ("", None, ""))
    label = ", ".join(part for part in (name, "**our best**" if is_best else "") if part)
    numbers = (
        f"{evaluation['step']:,}",
        f"{evaluation['tokens_seen']:,}",
        f"{evaluation['loss_nats']:.4f}",
        f"{evaluation['perplexity']:.2f}",
        f"{evaluation['bits_per_byte']:.4f}",
    )
    return f"| {' | '.join((label, *numbers, f'{nats:.4f}' if nats else '', perplexity))} |"


def table(evaluations: list[dict[str, Any]], vocabulary: str) -> str:
    """Return the page: the steps of the card, and our best."""
    best = min(evaluations, key=lambda evaluation: evaluation["loss_nats"])
    shown = [evaluation for evaluation in evaluations if evaluation["step"] in CARD or evaluation is best]
    sentence = f"Held-out loss in nats per token; our vocabulary: {vocabulary}. Made by `benchmarks/reference_run.py`."
    rows = [row(evaluation, is_best=evaluation is best) for evaluation in shown]
    return HEAD.format(sentence=sentence) + "\n".join(rows) + "\n"


def main() -> None:
    """Record a finished run."""
    entries, vocabulary = read_run(Path(sys.argv[1]))
    evaluations = [entry for entry in entries if entry["kind"] == "evaluation"]
    updates = [entry for entry in entries if entry["kind"] == "train" and entry["step"] % EVERY == 0]
    best, last = min(evaluations, key=lambda entry: entry["loss_nats"]), evaluations[-1]
    lines = [json.dumps(entry) for entry in sorted(evaluations + updates, key=lambda entry: entry["step"])]
    write_file(RESULTS / "reference_run.jsonl", "\n".join(lines) + "\n")
    write_file(TABLE, table(evaluations, vocabulary))
    card: dict[str, Any] = {"unit": "nats per token", "better": "lower", "peer": "the card's, on its own sample"}
    first = f"best held-out loss, step {best['step']:,}"
    claims = [
        Claim(what=first, value=best["loss_nats"], peer_value=CARDS_BEST_NATS, **card),
        Claim(what="held-out loss at the end", value=last["loss_nats"], peer_value=CARD[14_649][1], **card),
        Claim(what="bits per byte of the best", value=best["bits_per_byte"], unit="bits per byte", better="lower"),
    ]
    start = next(entry for entry in entries if entry["kind"] == "start")
    details = {"start": start, "vocabulary": vocabulary}
    print(record("reference_run", claims, details, machine=start["device_name"]).read_text())


if __name__ == "__main__":
    main()
