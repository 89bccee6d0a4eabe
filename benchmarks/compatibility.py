"""Write docs/compatibility.md: which of our files opened where, each cell from a command that ran.

usage: python benchmarks/compatibility.py [PYTEST OPTION]...   (also: make compatibility)
       python benchmarks/compatibility.py --render | --check

The rows come from the tests marked `external`, in one run: each opens a file of ours in a consumer, compares, and
calls the fixture `record_opened` of tests/conftest.py. To add a row, take that fixture in such a test and call it
once, after the last assertion:

    record_opened(
        file="onnx int8",                   # its format and dtype
        consumer="onnxruntime",             # the program that opened it
        version=metadata.version("onnxruntime"),
        model="stentor-12m",                # one name; models of one file, consumer and version share a row
        command="python tests/export/open_in_onnxruntime.py FILE",
        agrees=["token ids", "logits"],     # what the test found equal, or within its limit
        difference=2.1e-6,                  # the largest; None where the consumer refuses the file
        measure="logits",                   # what it is a difference of; or what the refusal said
    )

The tests may run in parts: with STENTOR_COMPATIBILITY=FOLDER their entries are kept there and taken from there.
A test that fails or is skipped (no environment: `make consumers browser`) stops the program, and nothing is written.
`--render` writes the page again from benchmarks/results/compatibility.json, `--check` fails if it is stale.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from record import RESULTS, record

from stentor.artifacts import write_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
RESULT = RESULTS / "compatibility.json"
BEGIN, END = "<!-- opened -->\n", "<!-- end of opened -->"
COLUMNS = ("file", "consumer", "version", "largest difference", "found equal, or within its limit", "models")


def run_tests(options: list[str], folder: Path) -> list[dict]:
    """Run the tests and return what they recorded in a folder, an entry for each opening."""
    command = [sys.executable, "-m", "pytest", "-m", "external", "-rs", *(options or ["tests"])]
    environment = {**os.environ, "STENTOR_COMPATIBILITY": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode or "SKIPPED" in done.stdout:
        sys.exit("a test failed or was skipped: nothing was written")
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def merged(openings: Iterable[dict]) -> list[dict]:
    """Return a row for each file, consumer and version: its largest difference, and all of its models and tests."""
    rows: dict[tuple[str, ...], dict] = {}
    for opening in sorted(openings, key=lambda entry: (entry["model"], entry["test"])):
        key = (opening["file"], opening["consumer"], opening["version"], opening["measure"])
        row = rows.setdefault(
            key, {**{k: v for k, v in opening.items() if k not in ("model", "test")}, "models": [], "tests": []}
        )
        row["models"] = sorted({*row["models"], opening["model"]})
        row["tests"] = sorted({*row["tests"], opening["test"]})
        row["agrees"] = [what for what in row["agrees"] if what in opening["agrees"]]
        if opening["difference"] is not None:
            row["difference"] = max(row["difference"], opening["difference"])
    return [rows[key] for key in sorted(rows)]


def table(rows: list[dict], *, taken: str) -> str:
    """Return the rows as Markdown, and below them the command of each consumer."""
    lines = [" | ".join(["", *COLUMNS, ""]).strip(), "| --- " * len(COLUMNS) + "|"]
    for row in rows:
        found = row["measure"] if row["difference"] is None else f"{row['difference']:.2g} ({row['measure']})"
        cells = [
            row["file"],
            row["consumer"],
            row["version"],
            found,
            ", ".join(row["agrees"]),
            "; ".join(row["models"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", taken, "", "The commands that opened them, and the tests that compared what they said:", ""]
    commands: dict[str, set[str]] = {}
    for row in rows:
        commands.setdefault(row["command"], set()).update(test.partition("[")[0] for test in row["tests"])
    lines += [
        f"- `{command}`: {', '.join(f'`{test}`' for test in sorted(tests))}"
        for command, tests in sorted(commands.items())
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with its table renewed from the recorded result."""
    result = json.loads(RESULT.read_text())
    taken = f"Taken on {result['date']} at commit {result['commit']}, {result['machine']}, by `{result['command']}`."
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(result['details']['rows'], taken=taken)}{END}{after}"


def main() -> None:
    """Run the tests and write the result and the page; or the page alone, or nothing."""
    options = sys.argv[1:]
    if options not in (["--check"], ["--render"]):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(os.environ.get("STENTOR_COMPATIBILITY", temporary))
            record("compatibility", [], {"rows": merged(run_tests(options, folder))})
    page = PAGE.read_text(encoding="utf-8")
    renewed = with_table(page)
    if options == ["--check"]:
        sys.exit("docs/compatibility.md does not show its result: run make compatibility" if renewed != page else 0)
    write_file(PAGE, renewed)


if __name__ == "__main__":
    main()
