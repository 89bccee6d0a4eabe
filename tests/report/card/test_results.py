"""The folder of results: files by their names, and what no command printed."""

from __future__ import annotations

import json

import pytest

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.card.results import COMMANDS, Results, read_results


def test_files_are_found_by_their_names(put):
    results = read_results(put(evaluate_wiki={"model": "m"}, evaluate={"model": "m"}, bench={"results": []}))
    assert [(found.kind, found.name) for found in results.found] == [
        ("bench", ""),
        ("evaluate", "wiki"),
        ("evaluate", ""),
    ]
    assert len(results.of("evaluate")) == 2
    assert results.first("generate") is None
    assert set(results.missing) == {*COMMANDS} - {"bench", "evaluate"}
    assert results.emissions == ()


def test_nothing_measured_misses_everything():
    assert Results().missing == COMMANDS


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("evalute.json", "{}", "did you mean 'evaluate'?"),
        ("bench.json", "{", "bench.json is not one JSON object"),
        ("bench.json", "[]", "is not what `stentor bench MODEL --json` prints"),
        ("bench.json", "3", "is not what `stentor bench"),
        ("compare.json", '{"runs": []}', "KeyError: 'models'"),
        ("emissions.csv", "", "no measurement"),
        ("emissions.csv", "duration,energy_consumed\n1,\n", "no measurement"),
        ("emissions.csv", "duration,energy_consumed\n1,-2\n", "no measurement"),
    ],
)
def test_what_no_command_printed_is_refused(tmp_path, name, text, sentence):
    write_file(tmp_path / name, text)
    with pytest.raises(UserError) as raised:
        read_results(tmp_path)
    assert sentence in str(raised.value)
    assert name in str(raised.value)


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="no folder of results"):
        read_results(tmp_path / "none")


def test_a_number_that_is_missing_names_the_file(put):
    (found,) = read_results(put(bench={"results": [{}]})).found
    with pytest.raises(UserError, match=r"bench\.json is not what .* \(KeyError: 'name'\)"):
        found.read(lambda value: value["results"][0]["name"])
    assert found.read(json.dumps) == '{"results": [{}]}'
