"""The folder of results: files by their names, and what no command printed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.card.results import _NEEDED, COMMANDS, Results, read_results


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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("text", ['{{"results": {}}}', '{{"results": [{{"decode_ms": {{"16": {}}}}}]}}'])
def test_a_number_that_is_none_is_refused(tmp_path, number, text):
    write_file(tmp_path / "bench.json", text.format(number))
    with pytest.raises(UserError, match=r"bench\.json has a number that is not finite") as raised:
        read_results(tmp_path)
    assert raised.value.fix == "measure it again"


def test_a_key_that_stands_twice_is_refused(tmp_path):
    """Which of two numbers a card would show is not for a reader of JSON to say."""
    write_file(tmp_path / "evaluate.json", '{"model": "m", "bits_per_byte": 1.0, "bits_per_byte": 2.0}')
    with pytest.raises(UserError, match="'bits_per_byte' stands twice"):
        read_results(tmp_path)


def test_deep_nesting_is_read_until_it_is_too_deep(tmp_path):
    deep = '{{"results": {}{}}}'
    write_file(tmp_path / "bench.json", deep.format("[" * 900, "]" * 900))
    (found,) = read_results(tmp_path).found
    assert isinstance(found.value["results"], list)
    write_file(tmp_path / "bench.json", deep.format("[" * 100_000, "]" * 100_000))
    with pytest.raises(UserError, match="nested too deeply"):
        read_results(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_a_shell_of_windows_writes_is_read(tmp_path, encoding):
    """PowerShell's `>` writes UTF-16, and others put a mark before UTF-8."""
    (tmp_path / "evaluate.json").write_bytes('{"model": "\u65e5\u672c"}'.encode(encoding))
    (found,) = read_results(tmp_path).found
    assert found.value == {"model": "\u65e5\u672c"}


def test_a_folder_called_like_a_file_is_refused(tmp_path):
    (tmp_path / "bench.json").mkdir()
    with pytest.raises(UserError, match=r"bench\.json cannot be read"):
        read_results(tmp_path)


@pytest.mark.parametrize("energy", ["inf", "nan", "-0.1", "much", "1e999"])
def test_energy_that_is_no_number_is_refused(tmp_path, energy):
    write_file(tmp_path / "emissions.csv", f"duration,energy_consumed\n10,{energy}\n")
    with pytest.raises(UserError, match="no measurement of codecarbon's"):
        read_results(tmp_path)


@given(st.sampled_from(sorted(COMMANDS)), st.text("abc-_. 1|`", max_size=8))
def test_the_name_is_all_after_the_kind(tmp_path_factory, kind, name):
    folder = tmp_path_factory.mktemp("results")
    write_file(folder / f"{kind}-{name}.json", json.dumps({_NEEDED[kind]: []}))
    (found,) = read_results(folder).found
    assert (found.kind, found.name) == (kind, name)
    assert kind not in read_results(folder).missing
