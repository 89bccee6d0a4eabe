"""One file -> raw documents: .txt, .md, .jsonl and .parquet, each also inside .gz or .zst, in bounded memory."""

from __future__ import annotations

import codecs
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from stentor.errors import UserError, missing_extra
from stentor.text.blocks import COMPRESSIONS, explained, read_blocks
from stentor.text.document import Document, Tally

# A text file up to this length is one document; a longer one is cut into pieces of at most PIECE_CHARACTERS.
WHOLE_CHARACTERS = 1_000_000
PIECE_CHARACTERS = 100_000
MAX_LINE_BYTES = 64 << 20
_BREAKS = ("\n\n", "\r\n\r\n", "\n", " ")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")
_PARQUET_ROWS = 256


def file_format(path: Path) -> str:
    """Return the ending that says how to read a file (`.txt`, ...), without its compression; empty if unknown."""
    inner = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    return inner.suffix if inner.suffix in _READERS else ""


def read_documents(path: Path, name: str, tally: Tally) -> Iterator[Document]:
    """Yield the documents of one file in order, uncleaned.

    Args:
        path: the file; its ending chooses the reader, see `file_format`.
        name: how the documents' ids begin.
        tally: receives what could not be read, with its reason, and what was repaired.

    Raises:
        UserError: the file is missing, damaged, or has no text where its format keeps it.
        MissingDependencyError: a .parquet file without pyarrow.
    """
    return _READERS[file_format(path)](path, name, tally)


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, by `?`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _text_blocks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; one that begins with another encoding's mark would be read as noise and is refused."""
    blocks = read_blocks(path)
    first = next(blocks, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # UTF-32's little endian mark begins alike
        raise UserError(f"{path} is UTF-16 text, not UTF-8", fix="convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE")
    yield from chain([first], blocks)


# --- plain text ---


def _read_text(path: Path, name: str, tally: Tally) -> Iterator[Document]:
    """Yield the file as one document, or as pieces when it is long (see `pieces`)."""
    index = -1
    for index, piece in enumerate(pieces(_decoded(_text_blocks(path)))):
        if _ESCAPED_BYTES.search(piece):
            piece = piece.encode(errors="surrogateescape").decode(errors="replace")
            tally.repaired("invalid_utf8")
        yield Document(piece, f"{name}#{index}" if index else name, str(path))
    if index < 0:
        tally.dropped_bytes("empty", 0)


def _decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    """Decode UTF-8 without its mark; invalid bytes come out as surrogates, so that they can be counted."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    is_start = True
    for block in chain(blocks, [b""]):
        text = decoder.decode(block, final=not block)
        yield text.removeprefix("\ufeff") if is_start else text
        is_start = is_start and not text


def pieces(
    chunks: Iterable[str], *, whole_characters: int = WHOLE_CHARACTERS, piece_characters: int = PIECE_CHARACTERS
) -> Iterator[str]:
    """Join a stream of characters; cut it into pieces only if it is longer than `whole_characters`.

    Each piece is as long as it can be within `piece_characters` and ends after the last blank line of its second half;
    where there is none, after a line end, after a space, or anywhere. The pieces together are the text, unchanged.
    """
    buffer, is_long = "", False
    for chunk in chunks:
        buffer += chunk
        is_long = is_long or len(buffer) > whole_characters
        start = 0
        while is_long and len(buffer) - start > piece_characters:
            end = _cut(buffer, start, start + piece_characters)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def _cut(text: str, start: int, limit: int) -> int:
    middle = (start + limit) // 2
    for mark in _BREAKS:
        found = text.rfind(mark, middle, limit)
        if found >= 0:
            return found + len(mark)
    return limit


# --- JSON lines ---


def _read_json_lines(path: Path, name: str, tally: Tally) -> Iterator[Document]:
    """Yield the `text` of each line; `id` and `source` are kept where they are given."""
    num_bad, num_good, first_problem = 0, 0, ""
    for number, line in _lines(_text_blocks(path), tally):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            record = json.loads(_decode(line, tally))
        except (ValueError, RecursionError) as error:
            num_bad += 1
            first_problem = first_problem or f"line {number}: {error}"
            tally.dropped_bytes("bad_json", len(line))
            continue
        num_good += 1
        document = _from_record(record, path, f"{name}:{number}", number)
        if document is None:
            tally.dropped_bytes("text_not_a_string", len(line))
        else:
            yield document
    if num_bad and not num_good:
        raise UserError(
            f"no line of {path} is valid JSON ({first_problem})",
            fix='write one object a line, such as {"text": "..."}, or name the file .txt',
        )


def _from_record(record: Any, path: Path, default_id: str, number: int) -> Document | None:
    if not isinstance(record, dict) or "text" not in record:
        found = f"keys: {', '.join(list(record)[:12]) or 'none'}" if isinstance(record, dict) else type(record).__name__
        raise UserError(
            f'{path} line {number} has no key "text" ({found})',
            fix='name the key that holds the text "text" in every line',
        )
    return document_of(record, default_id, str(path))


def document_of(record: dict[str, Any], default_id: str, default_source: str) -> Document | None:
    """Make a document of a record with the keys `text` and maybe `id` and `source`; None if its text is no string."""
    text, given_id, source = record["text"], record.get("id"), record.get("source")
    if not isinstance(text, str):
        return None
    document_id = str(given_id) if isinstance(given_id, str | int) else default_id
    return Document(
        without_surrogates(text),
        without_surrogates(document_id),
        without_surrogates(source) if isinstance(source, str) else default_source,
    )


def _lines(blocks: Iterable[bytes], tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line); a line above MAX_LINE_BYTES is passed over without being held."""
    parts: list[bytes] = []
    size, number = 0, 1
    for block in blocks:
        for index, part in enumerate(block.split(b"\n")):
            if index:
                yield from _finished_line(number, parts, size, tally)
                parts, size, number = [], 0, number + 1
            size += len(part)
            if size <= MAX_LINE_BYTES:
                parts.append(part)
            else:
                parts.clear()
    yield from _finished_line(number, parts, size, tally)


def _finished_line(number: int, parts: list[bytes], size: int, tally: Tally) -> Iterator[tuple[int, bytes]]:
    if size > MAX_LINE_BYTES:
        tally.dropped_bytes("line_too_long", size)
    else:
        yield number, b"".join(parts)


def _decode(data: bytes, tally: Tally) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        tally.repaired("invalid_utf8")
        return data.decode(errors="replace")


# --- Parquet ---


def _read_parquet(path: Path, name: str, tally: Tally) -> Iterator[Document]:
    """Yield the column `text` row by row; a compressed file is unpacked into an unnamed temporary file first."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "data", needed_for=f"reading {path}") from None
    with explained(path), _seekable(path) as file:
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            columns = _text_columns(parquet.schema_arrow, path)
            number = 0
            for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=columns, use_threads=False):
                for record in _records(batch, tally):
                    number += 1
                    document = document_of(record, f"{name}:{number}", str(path))
                    if document is None:
                        tally.dropped_bytes("text_not_a_string", 0)
                    else:
                        yield document
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the system's refusal; Arrow's own, such as a bad page, have no number
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path} is not a valid .parquet file ({reason:.300})", fix="fetch the file again"
            ) from None


def _text_columns(schema: Any, path: Path) -> list[str]:
    import pyarrow

    if "text" not in schema.names:
        raise UserError(
            f"{path} has no column 'text' (columns: {', '.join(schema.names) or 'none'})",
            fix="rename the column that holds the text",
        )
    if schema.names.count("text") > 1:
        raise UserError(f"{path} has {schema.names.count('text')} columns 'text'", fix="keep one of them")
    kind = schema.field("text").type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise UserError(f"the column 'text' of {path} holds {kind}, not strings", fix="write it as a string column")
    return [column for column in ("text", "id", "source") if schema.names.count(column) == 1]


def _records(batch: Any, tally: Tally) -> Iterator[dict[str, Any]]:
    """Yield rows as dictionaries; the text goes through bytes, since Arrow does not promise valid UTF-8."""
    import pyarrow

    others = [column for column in batch.schema.names if column != "text"]
    rows = batch.select(others).to_pylist() if others else [{} for _ in range(batch.num_rows)]
    texts = batch.column("text").cast(pyarrow.large_binary())
    for row, data in zip(rows, texts, strict=True):
        data = data.as_py()
        yield {**row, "text": None if data is None else _decode(data, tally)}


def _seekable(path: Path) -> IO[bytes]:
    if path.suffix not in COMPRESSIONS:
        return path.open("rb")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for block in read_blocks(path):
        file.write(block)
    file.seek(0, os.SEEK_SET)
    return file


_READERS = {".txt": _read_text, ".md": _read_text, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
