"""Write the README's table of results from `benchmarks/results/*.json`, between its two markers.

usage: python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from record import RESULTS

from stentor.artifacts import write_file

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"


def results_table() -> str:
    """Return one row a claim, as Markdown."""
    rows = ["| result | measured | beside it, in the same run | target | machine |", "| --- | --- | --- | --- | --- |"]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        for claim in result["claims"]:
            peer = f"{claim['peer']}: {claim['peer_value']:.4g}" if claim["peer"] else ""
            sign = {"lower": "at most", "higher": "at least"}[claim["better"]]
            target = f"{sign} {claim['target']:.4g}" if claim["target"] is not None else ""
            rows.append(
                f"| {result['name']}: {claim['what']} | {claim['value']:.4g} {claim['unit']} | {peer} | {target} "
                f"| {result['machine']} |"
            )
    return "\n".join(rows) + "\n"


def with_results(readme: str) -> str:
    """Return the README with its table renewed."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{results_table()}{END}{after}"


def main() -> None:
    """Renew the README, or with --check fail if it is stale."""
    current = README.read_text(encoding="utf-8")
    renewed = with_results(current)
    if "--check" in sys.argv:
        sys.exit("README.md does not show benchmarks/results: run make results" if renewed != current else 0)
    write_file(README, renewed)


if __name__ == "__main__":
    main()
