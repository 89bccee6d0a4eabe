"""The table of a run: a row for each evaluation, the best one in bold."""

from __future__ import annotations

from stentor.report.results import COLUMNS, result_rows, results_table
from stentor.report.run_log import RunLog


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_a_small_run_by_hand(made):
    log = RunLog((), (made.evaluation(375, 7.1108), made.evaluation(11_625, 3.9145), made.evaluation(14_649, 4.0083)))
    assert results_table(log) == (
        "| step | tokens | loss, nats per token | perplexity | bits per byte |  |\n"
        "| ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| 375 | 37,500 | 7.1108 | 1,225.13 | 3.5554 |  |\n"
        "| **11,625** | **1,162,500** | **3.9145** | **50.12** | **1.9572** | **best** |\n"
        "| 14,649 | 1,464,900 | 4.0083 | 55.05 | 2.0042 | last |\n"
    )


def test_every_row_has_every_column(log):
    lines = results_table(log).splitlines()
    assert len(lines) == 2 + len(log.evaluations)
    assert {len(cells_of(line)) for line in lines} == {len(COLUMNS)}


def test_one_row_is_the_best_and_one_the_last(log, made):
    rows = list(result_rows(log))
    assert [cells[0] for cells, is_best in rows if is_best] == ["900"]
    assert [cells[-1] for cells, _ in rows] == [*[""] * 8, "best", "last"]
    (only,) = result_rows(RunLog((), (made.evaluation(1, 2.0),)))
    assert only == (("1", "100", "2.0000", "7.39", "1.0000", "best, last"), True)


def test_the_first_of_equals_is_the_best(made):
    rows = list(result_rows(RunLog((), (made.evaluation(1, 2.0), made.evaluation(2, 2.0)))))
    assert [is_best for _, is_best in rows] == [True, False]


def test_a_run_that_was_not_evaluated_has_a_head_alone(made):
    assert len(results_table(RunLog((made.train(1),), ())).splitlines()) == 2
