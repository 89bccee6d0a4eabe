"""The folder `report/` of a run: its results as a table, its curves and its dynamics as pictures."""

from __future__ import annotations

from pathlib import Path

from stentor.artifacts import write_file
from stentor.report.curves import write_curves
from stentor.report.dynamics import write_dynamics
from stentor.report.results import results_table
from stentor.report.run_log import RunLog

REPORT_NAME = "report"


def write_report(log: RunLog, run_dir: Path) -> list[Path]:
    """Write `table.md`, and `curves` and `dynamics` as SVG and PNG, into a run's folder; return their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed; the table is there all the same.
    """
    folder = run_dir / REPORT_NAME
    write_file(table := folder / "table.md", results_table(log))
    return [table, *write_curves(log, folder), *write_dynamics(log, folder)]
