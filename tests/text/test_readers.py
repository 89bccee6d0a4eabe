"""Each format gives its documents or one clear sentence; no input makes a crash."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import MissingDependencyError, UserError
from stentor.text import readers
from stentor.text.document import Document, Tally
from stentor.text.readers import file_format, pieces, read_documents, without_surrogates

anywhere = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, tally: Tally | None = None) -> list[Document]:
    return list(read_documents(path, path.name, tally or Tally()))


def json_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", ".txt"),
        ("a.md.gz", ".md"),
        ("a.b.jsonl.zst", ".jsonl"),
        ("a.parquet", ".parquet"),
        ("a.pdf", ""),
        ("a", ""),
        ("a.gz", ""),
        ("a.txt.bz2", ""),
        (".txt", ""),
    ],
)
def test_file_format(name, expected):
    assert file_format(Path(name)) == expected


# --- plain text ---


def test_text_file_is_one_document(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"# Title\r\n\r\nBody  \r\n")
    assert read(path) == [Document("# Title\r\n\r\nBody  \r\n", "a.md", str(path))]


@pytest.mark.parametrize(
    ("data", "text", "repaired"),
    [
        (b"\xef\xbb\xbfmarked", "marked", 0),
        ("h\xe4user".encode(), "h\xe4user", 0),
        (b"caf\xe9 au lait", "caf\ufffd au lait", 1),
        (b"cut \xf0\x9f\x98", "cut \ufffd", 1),
        (b"\xff\xfd\x00", "\ufffd\ufffd\x00", 1),
        (b"surrogate \xed\xa0\x80", "surrogate \ufffd\ufffd\ufffd", 1),
    ],
)
def test_invalid_utf8_is_replaced_and_counted(tmp_path, data, text, repaired):
    path, tally = tmp_path / "a.txt", Tally()
    path.write_bytes(data)
    assert [document.text for document in read(path, tally)] == [text]
    assert tally.repaired_documents["invalid_utf8"] == repaired


@anywhere
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_as_python_would_replace_them(tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    text = "".join(document.text for document in read(path))
    assert text == data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")


def test_characters_across_blocks_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("stentor.text.blocks.BLOCK_BYTES", 3)
    path = tmp_path / "a.txt"
    path.write_text("\xe4\u20ac\U0001f600" * 20, encoding="utf-8")
    assert read(path)[0].text == "\xe4\u20ac\U0001f600" * 20


def test_empty_file_is_counted(tmp_path):
    path, tally = tmp_path / "a.txt", Tally()
    path.touch()
    assert read(path, tally) == []
    assert tally.dropped_documents == {"empty": 1}


def test_huge_text_is_cut_into_numbered_pieces(tmp_path):
    path = tmp_path / "book.txt"
    text = "".join(f"Paragraph {n}. {'word ' * 60}\n\n" for n in range(5000))
    path.write_text(text, encoding="utf-8")
    documents = read(path)
    assert "".join(document.text for document in documents) == text
    assert [document.id for document in documents[:3]] == ["book.txt", "book.txt#1", "book.txt#2"]
    assert all(len(document.text) <= readers.PIECE_CHARACTERS for document in documents)
    assert all(document.text.endswith("\n\n") for document in documents)


@given(st.text(alphabet="ab \r\n", max_size=120), st.lists(st.integers(1, 7), min_size=1), st.integers(0, 60))
def test_pieces_are_the_text_whatever_the_chunks(text, sizes, whole):
    chunks, start = [], 0
    while start < len(text):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[start : start + size])
        start += size
    cut = list(pieces(chunks, whole_characters=whole, piece_characters=10))
    assert "".join(cut) == text
    assert all(cut)
    assert cut == list(pieces([text], whole_characters=whole, piece_characters=10))
    assert len(cut) <= 1 if len(text) <= whole else all(len(piece) <= 10 for piece in cut)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaaaa\n\nbb\ncc dd", ["aaaaaa\n\n", "bb\ncc dd"]),
        ("aaaaa\r\n\r\nbb\ncccc", ["aaaaa\r\n\r\n", "bb\ncccc"]),
        ("aaaaaa\nbb cccccc", ["aaaaaa\n", "bb cccccc"]),
        ("aaaaaa bbbbbbbb", ["aaaaaa ", "bbbbbbbb"]),
        ("a\n\nbbbbbbbbbbbbbb", ["a\n\nbbbbbbb", "bbbbbbb"]),
    ],
)
def test_pieces_end_at_the_best_place(text, expected):
    assert list(pieces([text], whole_characters=12, piece_characters=10)) == expected


# --- JSON lines ---


def test_json_lines_keep_id_and_source(tmp_path):
    path = json_lines(
        tmp_path / "a.jsonl",
        {"text": "one", "id": "x-1", "source": "a book"},
        {"text": "two", "id": 7},
        {"text": "three", "id": None, "source": 3, "other": []},
    )
    assert read(path) == [
        Document("one", "x-1", "a book"),
        Document("two", "7", str(path)),
        Document("three", "a.jsonl:3", str(path)),
    ]


def test_blank_lines_line_ends_and_marks_are_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \n{"text": "two"}')
    assert [(document.text, document.id) for document in read(path)] == [("one", "a.jsonl:1"), ("two", "a.jsonl:4")]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"body": "x", "title": "y"}, "keys: body, title"),
        ({}, "keys: none"),
        (["text"], "list"),
        ("text", "str"),
        (None, "NoneType"),
    ],
)
def test_line_without_text_names_file_line_and_keys(tmp_path, record, found):
    path = json_lines(tmp_path / "a.jsonl", {"text": "fine"}, record)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "line 2" in caught.value.message
    assert found in caught.value.message


def test_text_that_is_no_string_is_dropped(tmp_path):
    tally = Tally()
    path = json_lines(tmp_path / "a.jsonl", {"text": None}, {"text": 3}, {"text": "fine"})
    assert [document.text for document in read(path, tally)] == ["fine"]
    assert tally.dropped_documents == {"text_not_a_string": 2}


@pytest.mark.parametrize(
    "bad", [b"{", b'{"text": "cut', b"nonsense", b"[" * 200_000, b'{"text": "a"} {"text": "b"}', b"9" * 5000 + b"x"]
)
def test_bad_json_is_dropped_and_counted(tmp_path, bad):
    path, tally = tmp_path / "a.jsonl", Tally()
    path.write_bytes(bad + b'\n{"text": "fine"}\n')
    assert [document.text for document in read(path, tally)] == ["fine"]
    assert tally.dropped_documents == {"bad_json": 1}
    assert tally.dropped_num_bytes == {"bad_json": len(bad)}


def test_file_with_no_json_at_all_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("a plain text\nof two lines\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no line of .*a\.jsonl is valid JSON \(line 1: "):
        read(path)


def test_lone_surrogates_and_invalid_utf8_in_json(tmp_path):
    path, tally = tmp_path / "a.jsonl", Tally()
    path.write_bytes(b'{"text": "lone \\ud83d and pair \\ud83d\\ude00", "id": "\\udc00"}\n{"text": "caf\xe9"}\n')
    first, second = read(path, tally)
    assert (first.text, first.id) == ("lone ? and pair \U0001f600", "?")
    assert second.text == "caf\ufffd"
    assert tally.repaired_documents == {"invalid_utf8": 1}


@pytest.mark.parametrize("limit", [20, 40])
def test_line_that_is_too_long_is_passed_over(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", limit)
    monkeypatch.setattr("stentor.text.blocks.BLOCK_BYTES", 7)
    path, tally = tmp_path / "a.jsonl", Tally()
    json_lines(path, {"text": "before"}, {"text": "x" * limit}, {"text": "after"})
    assert [(document.text, document.id) for document in read(path, tally)] == [
        ("before", "a.jsonl:1"),
        ("after", "a.jsonl:3"),
    ]
    assert tally.dropped_documents == {"line_too_long": 1}
    assert tally.dropped_num_bytes["line_too_long"] == limit + len('{"text": ""}')


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.txt.zst"])
def test_single_huge_line_is_read_in_bounded_memory(tmp_path, monkeypatch, name):
    """A small twin of a 1 GB line: 24 MB against a line limit of 1 MB."""
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 1 << 20)
    path, tally = tmp_path / name, Tally()
    data = b"word " * 4_800_000
    path.write_bytes(
        gzip.compress(data, 1) if name.endswith("gz") else zstandard.compress(data) if name.endswith("zst") else data
    )
    list(read_documents(path, name, Tally()))  # imports and caches
    tracemalloc.start()
    num_characters = sum(len(document.text) for document in read_documents(path, name, tally))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_characters + tally.dropped_num_bytes["line_too_long"] == len(data)
    assert peak < (64 << 20 if name.endswith("zst") else 12 << 20)


@anywhere
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.txt", "a.jsonl", "a.parquet", "a.txt.gz", "a.jsonl.zst"]))
def test_no_bytes_crash_a_reader(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    try:
        for document in read(path):
            document.text.encode()
    except UserError as error:
        assert str(path) in error.message  # noqa: PT017 - any input may be fine or not


@anywhere
@given(texts=st.lists(st.text(), max_size=8))
def test_what_was_written_as_json_is_read(tmp_path, texts):
    path = json_lines(tmp_path / "a.jsonl", *({"text": text} for text in texts))
    assert [document.text for document in read(path)] == [without_surrogates(text) for text in texts]


@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_with_its_mark_is_refused(tmp_path, ending, encoding):
    path = tmp_path / f"a{ending}"
    path.write_text('{"text": "fine"}\n' * 10, encoding=encoding)
    with pytest.raises(UserError, match="is UTF-16 text, not UTF-8" if encoding == "utf-16" else "not UTF-8") as caught:
        read(path)
    assert "iconv" in caught.value.fix


# --- Parquet ---


def parquet(path: Path, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return path


def test_parquet_rows(tmp_path):
    path, tally = tmp_path / "a.parquet", Tally()
    parquet(path, text=["one", None, "drei \xfc"], id=["i", "j", None], other=[1.0, 2.0, 3.0])
    assert read(path, tally) == [Document("one", "i", str(path)), Document("drei \xfc", "a.parquet:3", str(path))]
    assert tally.dropped_documents == {"text_not_a_string": 1}


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_parquet_inside_a_compressed_file(tmp_path, ending, pack):
    plain = parquet(tmp_path / "a.parquet", text=[f"row {n}" for n in range(1000)])
    path = tmp_path / f"a.parquet{ending}"
    path.write_bytes(pack(plain.read_bytes()))
    assert [document.text for document in read(path)] == [f"row {n}" for n in range(1000)]


def test_parquet_large_strings_and_invalid_utf8(tmp_path):
    raw = pyarrow.array([b"caf\xe9", b"fine"], pyarrow.binary())
    column = pyarrow.Array.from_buffers(pyarrow.string(), len(raw), raw.buffers())
    path, tally = tmp_path / "a.parquet", Tally()
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
    assert [document.text for document in read(path, tally)] == ["caf\ufffd", "fine"]
    assert tally.repaired_documents == {"invalid_utf8": 1}
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(["big"], pyarrow.large_string())}), path)
    assert [document.text for document in read(path)] == ["big"]


@pytest.mark.parametrize("column", ["id", "source"])
def test_parquet_with_another_column_that_is_no_utf8(tmp_path, column):
    raw = pyarrow.array([b"fine", b"caf\xe9"], pyarrow.binary())
    invalid = pyarrow.Array.from_buffers(pyarrow.string(), len(raw), raw.buffers())
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"], column: invalid}), path)
    with pytest.raises(
        UserError, match=r"a\.parquet is not a valid \.parquet file \('utf-8' codec can't decode"
    ) as caught:
        read(path)
    assert "\n" not in caught.value.message
    assert caught.value.fix == "fetch the file again"


@pytest.mark.parametrize("name", [b"text", b"other"])
def test_parquet_whose_names_are_no_utf8(tmp_path, name):
    path = parquet(tmp_path / "a.parquet", text=["one"], other=["two"])
    path.write_bytes(path.read_bytes().replace(name, name[:-2] + b"\xe9\xff"))
    with pytest.raises(UserError, match=r"a\.parquet is not a valid \.parquet file \('utf-8' codec can't decode"):
        read(path)


def test_parquet_without_text_names_its_columns(tmp_path):
    path = parquet(tmp_path / "a.parquet", body=["x"], url=["y"])
    with pytest.raises(UserError, match=r"no column 'text' \(columns: body, url\)"):
        read(path)


def test_parquet_with_text_of_another_type(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=[1, 2])
    with pytest.raises(UserError, match="holds int64, not strings"):
        read(path)


def test_parquet_with_a_column_twice(tmp_path):
    path, column = tmp_path / "a.parquet", pyarrow.array(["x"])
    pyarrow.parquet.write_table(pyarrow.table([column, column], names=["text", "text"]), path)
    with pytest.raises(UserError, match="has 2 columns 'text'"):
        read(path)
    pyarrow.parquet.write_table(pyarrow.table([column] * 3, names=["text", "id", "id"]), path)
    assert [document.text for document in read(path)] == ["x"]


def test_parquet_with_a_damaged_page(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=[f"word {n} " * 50 for n in range(20)])
    data = bytearray(path.read_bytes())
    data[40:200] = bytes(160)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"not a valid \.parquet file") as caught:
        read(path)
    assert caught.value.fix == "fetch the file again"


@pytest.mark.parametrize("keep", [0, 10, 100, -1, -9])
def test_parquet_that_is_cut(tmp_path, keep):
    path = parquet(tmp_path / "a.parquet", text=["word " * 50] * 20)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"not a valid \.parquet file"):
        read(path)


def test_missing_parquet_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none.parquet")


def test_missing_pyarrow_is_explained(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet", text=["x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="'pyarrow'") as caught:
        read(path)
    assert "stentor[data]" in caught.value.fix


def test_importing_the_stage_loads_no_heavy_package():
    heavy = ("pyarrow", "datasets", "torch", "ftfy", "numpy")
    program = f"import sys, stentor.text.corpus; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
