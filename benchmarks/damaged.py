"""Claim: every damaged file is refused in one sentence or provably harmless; none crashes, hangs or takes much memory.

usage: python benchmarks/damaged.py [SEEDS]

Files of every format of `tests/corrupt/formats.py` are damaged in every way of `tests/corrupt/damage.py`, with more
damages and other seeds than the tests have, and opened as users open them in a process of their own.
docs/reliability.md tells the rule that each must keep, and shows the counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from record import Claim, record

from stentor.artifacts import write_file

sys.path.append(str(Path(__file__).parents[1] / "tests" / "corrupt"))
from formats import FORMATS, SLOW_FORMATS
from trial import HARMLESS, OTHER, REFUSED, Tally, try_all
from worker import FLOOR_BYTES, MAX_SECONDS

COUNT, SLOW_COUNT, LEAST = 5, 1, 500
DOCS = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- damaged -->\n", "<!-- end of damaged -->"


def table_of(tallies: Mapping[str, Tally]) -> str:
    """Return one row a format, as Markdown."""
    rows = [f"| Format | Files | {REFUSED} | {HARMLESS} | {OTHER} |", "| --- | --- | --- | --- | --- |"]
    for name, tally in tallies.items():
        found = tally.by_outcome()
        rows.append(f"| {name} | {found.total():,} | {found[REFUSED]:,} | {found[HARMLESS]:,} | {found[OTHER]:,} |")
    return "\n".join(rows) + "\n"


def details_of(tallies: Mapping[str, Tally]) -> dict[str, object]:
    """Return the counts by format, damage and outcome."""
    counts: dict[str, object] = {}
    for name, tally in tallies.items():
        by_kind: dict[str, Counter[str]] = {}
        for (kind, outcome), count in sorted(tally.outcomes.items()):
            by_kind.setdefault(kind, Counter())[outcome] += count
        counts[name] = {kind: dict(outcomes) for kind, outcomes in by_kind.items()}
    return counts


def claims_of(tallies: Mapping[str, Tally]) -> list[Claim]:
    """Return what the README shows."""
    totals = sum((tally.by_outcome() for tally in tallies.values()), Counter())
    failures = sum(len(tally.failures) for tally in tallies.values())
    slowest, largest = (
        max(getattr(tally, name) for tally in tallies.values()) for name in ("max_seconds", "max_bytes")
    )
    return [
        Claim(what="damaged files opened", value=totals.total(), unit="", better="higher", target=LEAST),
        Claim(what="of these refused in one sentence", value=totals[REFUSED], unit="", better="higher"),
        Claim(what="crashes, hangs, other errors or wrong content", value=failures, unit="", better="lower", target=0),
        Claim(what="longest opening of one", value=slowest, unit="s", better="lower", target=MAX_SECONDS),
        Claim(
            what="most memory taken by one", value=largest / 1e6, unit="MB", better="lower", target=FLOOR_BYTES / 1e6
        ),
    ]


def main() -> None:
    """Try them all, record the counts and renew the table in the documentation."""
    num_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seeds = range(100, 100 + num_seeds)
    with tempfile.TemporaryDirectory() as folder:
        own, other = Path(folder, "own"), Path(folder, "transformers")
        tallies = try_all(FORMATS, own, seeds=seeds, count=COUNT, on_format=print)
        tallies |= try_all(SLOW_FORMATS, other, seeds=seeds[:1], count=SLOW_COUNT, on_format=print)
    for failure in (failure for tally in tallies.values() for failure in tally.failures):
        print(failure, file=sys.stderr)
    print(record("damaged", claims_of(tallies), details_of(tallies)).read_text())
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    write_file(DOCS, before + BEGIN + table_of(tallies) + END + rest.partition(END)[2])
    sys.exit(any(tally.failures for tally in tallies.values()))


if __name__ == "__main__":
    main()
