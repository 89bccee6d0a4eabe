"""Show `benchmarks/results/`: the README's table and picture, and every claim in docs/results/benchmarks.md.

usage: python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from record import RESULTS

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.report.drawing import BLUE, GREEN, INK, ORANGE, count_axis, drawn, dress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
README, ALL, PICTURE = ROOT / "README.md", ROOT / "docs/results/benchmarks.md", ROOT / "docs/results/curves.svg"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"
STALE = "README.md or docs/results/benchmarks.md does not show benchmarks/results: run make results"
CURVES = {
    "the reference's recipe": ("the reference's recipe", ORANGE),
    "qwen3 alone": ("stentor2-12m-best, alone", BLUE),
    "qwen3": ("stentor2-12m-best, with its teacher", GREEN),
}


class Headline(NamedTuple):
    """A row of the README.

    Attributes:
        label: of the row.
        name: of the result.
        what: the claim.
        peer: whom it is shown beside: a claim's peer that begins so, or a claim of the same result; empty for nobody.
        peer_label: what the README calls it.
        form: of the numbers.
    """

    label: str
    name: str
    what: str
    peer: str
    peer_label: str
    form: str


HEADLINES = (
    Headline("The model that ships, on text it never saw, bits per byte", "flagship",
             "held-out text, float32, the end of the run", "", "", "{:.3f}"),
    Headline("Held-out text after 240M tokens, bits per byte", "recipe_budget", "qwen3",
             "the reference's recipe", "the reference's recipe, same data and budget", "{:.3f}"),
    Headline("The model that ships, as a file of four bits, MB", "quantization", "gguf q4_0, calibrated: size",
             "float32", "in float32", "{:.1f}"),
    Headline("Training on an H200, tokens/s", "train_throughput", "train, AdamW, 32,768 tokens per step",
             "transformers, torch.compile reduce-overhead", "transformers, compiled", "{:,.0f}"),
    Headline("Training on two CPU cores, tokens/s", "cpu_training", "train on a CPU, bfloat16",
             "transformers, bfloat16 autocast, torch.compile", "transformers, compiled", "{:,.0f}"),
    Headline("A token on one CPU core, ms", "cpu_generation", "a token at position 128, threads: 1",
             "llama.cpp", "llama.cpp, Q8_0", "{:.2f}"),
    Headline("A prompt of 512 tokens on two CPU cores, tokens/s", "cpu_generation",
             "a prompt of 512 tokens, threads: 2", "llama.cpp", "llama.cpp, Q8_0", "{:,.0f}"),
    Headline("Text on an H100, one at a time, tokens/s", "gpu_generation", "bfloat16, greedy, 1 at a time",
             "transformers, static cache, compiled", "transformers, static and compiled", "{:,.0f}"),
    Headline("TokenMonster on one core, MB/s into lists", "tokenizer_encode",
             "encode english-8000-balanced-v1 into lists, one thread", "sentencepiece", "sentencepiece Unigram",
             "{:.1f}"),
)  # fmt: skip


def results() -> dict[str, dict[str, Any]]:
    """Return every result by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def headlines(found: dict[str, dict[str, Any]]) -> str:
    """Return the README's rows, as Markdown."""
    rows = ["| measured | Stentor | beside it | machine |", "| --- | ---: | ---: | --- |"]
    for row in HEADLINES:
        result = found[row.name]
        claims = [claim for claim in result["claims"] if claim["what"] == row.what]
        peers = [claim["peer_value"] for claim in claims if (claim["peer"] or "").startswith(row.peer)]
        peers += [claim["value"] for claim in result["claims"] if claim["what"] == row.peer]
        ours, *theirs = (row.form.format(value) for value in (claims[0]["value"], *peers[: bool(row.peer)]))
        beside = f"{theirs[0]} ({row.peer_label})" if theirs else ""
        machine = result["machine"].replace("Linux x86_64, ", "").replace("(R)", "")
        rows.append(f"| {row.label} | **{ours}** | {beside} | {machine} |")
    return "\n".join(rows) + "\n"


def all_claims(found: dict[str, dict[str, Any]]) -> str:
    """Return a page with every claim of every result."""
    lines = [
        "# Every measured claim", "",
        "Made by `make results` from `benchmarks/results/*.json`; each program in `benchmarks/` says what it compares.",
    ]  # fmt: skip
    for name, result in found.items():
        if not result["claims"]:
            continue
        lines += [
            "", f"## {name}", "", f"`{result['command']}`, {result['date']}, {result['machine']}", "",
            "| what | measured | beside it, in the same run | target |", "| --- | --- | --- | --- |",
        ]  # fmt: skip
        for claim in result["claims"]:
            peer = f"{claim['peer']}: {shown(claim['peer_value'])}" if claim["peer"] else ""
            sign = {"lower": "at most", "higher": "at least"}[claim["better"]]
            target = f"{sign} {shown(claim['target'])}" if claim["target"] is not None else ""
            lines.append(f"| {claim['what']} | {shown(claim['value'])} {claim['unit']} | {peer} | {target} |")
    return "\n".join(lines) + "\n"


def shown(value: float) -> str:
    """Return a number with four digits or, of a large one, with all before its point."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def curves() -> dict[str, tuple[list[int], list[float]]]:
    """Return tokens and bits per byte of the runs of the whole budget that the picture shows."""
    lines = (RESULTS / "recipe_budget.jsonl").read_text(encoding="utf-8").splitlines()
    runs = {run["name"]: run for run in map(json.loads, lines)}
    found = {}
    for name in CURVES:
        step = Recipe.load(runs[name]["recipe"]).train.global_batch_tokens
        points = runs[name]["evaluations"]
        found[name] = [at * step for at, _ in points], [bits for _, bits in points]
    return found


def draw(figure: Figure) -> None:
    """Draw held-out bits per byte against the tokens that a run has seen."""
    axes = figure.add_subplot()
    for name, (tokens, bits) in curves().items():
        label, colour = CURVES[name]
        axes.plot(tokens, bits, color=colour, linewidth=2, label=f"{label}: {bits[-1]:.3f}")
    axes.set_ylim(1.1, 1.9)
    dress(axes, "Held-out bits per byte: the same text, shape and number of tokens")
    count_axis(axes, "tokens of training")
    axes.legend(frameon=False, labelcolor=INK)


def with_headlines(readme: str, found: dict[str, dict[str, Any]]) -> str:
    """Return the README with its table renewed."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{headlines(found)}{END}{after}"


def main() -> None:
    """Renew what shows the results, or with --check fail if it is stale."""
    found = results()
    current = README.read_text(encoding="utf-8")
    renewed, page = with_headlines(current, found), all_claims(found)
    if "--check" in sys.argv:
        is_fresh = renewed == current and ALL.exists() and ALL.read_text(encoding="utf-8") == page
        sys.exit(0 if is_fresh else STALE)
    write_file(README, renewed)
    write_file(ALL, page)
    write_file(PICTURE, partial(drawn, (8.0, 4.2), draw)("svg"))


if __name__ == "__main__":
    main()
