"""Files of JSON lines: what is read, and how a mistake is named."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.evaluate.records import TEXT, Field, read_records, record_files

FIELDS = {"a": TEXT, "b": Field("a whole number", lambda value: isinstance(value, int))}


def test_lines_come_in_order_with_their_places(write_lines):
    path = write_lines("x.jsonl", {"a": "one", "b": 1, "more": None}, "", "  ", {"b": 2, "a": "caf\u00e9"})
    records = list(read_records(path, FIELDS))
    assert [record.values["a"] for record in records] == ["one", "caf\u00e9"]
    assert [record.place for record in records] == [f"{path} line 1", f"{path} line 4"]
    assert records[0].values["more"] is None


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_compressed_files_long_lines_and_a_last_line_without_an_end(tmp_path, ending):
    data = "\ufeff" + "\n".join(json.dumps({"a": "x" * size, "b": size}) for size in (1, 3_000_000, 2))
    path = tmp_path / f"x.jsonl{ending}"
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending]
    write_file(path, compress(data.encode()))
    assert [record.values["b"] for record in read_records(path, FIELDS)] == [1, 3_000_000, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": "x"}', 'line 2 has no field "b" (fields: a)'),
        ("{}", 'line 2 has no field "a" (fields: none)'),
        ('{"a": "", "b": 1}', 'the field "a" in'),
        ('{"a": ["x"], "b": 1}', "line 2 is not a text that is not empty"),
        ('{"a": "x", "b": "1"}', "line 2 is not a whole number"),
        ('["a", "b"]', "line 2 is no JSON object"),
        ('{"a": "x", ', "line 2 is not valid JSON"),
        ("nonsense", "line 2 is not valid JSON"),
    ],
)
def test_a_wrong_line_is_named_by_file_line_and_field(write_lines, line, said):
    path = write_lines("x.jsonl", {"a": "x", "b": 1}, line)
    with pytest.raises(UserError) as caught:
        list(read_records(path, FIELDS))
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert '"a": ..., "b": ...' in caught.value.fix


def test_bytes_that_are_not_text_are_refused(tmp_path):
    write_file(tmp_path / "x.jsonl", b'{"a": "\xff", "b": 1}\n')
    with pytest.raises(UserError, match="line 1 is not valid JSON"):
        list(read_records(tmp_path / "x.jsonl", FIELDS))


def test_an_empty_file_is_refused(write_lines):
    with pytest.raises(UserError, match="has no line to evaluate"):
        list(read_records(write_lines("x.jsonl", " "), FIELDS))


def test_a_folder_stands_for_its_files_by_name(write_lines, tmp_path):
    for name in ("b.jsonl", "a.jsonl.gz", ".hidden.jsonl", "c.txt"):
        write_lines(name, {})
    assert [path.name for path in record_files(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]
    assert record_files(tmp_path / "b.jsonl") == [tmp_path / "b.jsonl"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "no such file or folder"), ("empty", "has no .jsonl file"), ("c.txt", "is no file of JSON lines")],
)
def test_what_holds_no_records_is_refused(write_lines, tmp_path, name, said):
    write_lines("c.txt", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        record_files(tmp_path / name)
