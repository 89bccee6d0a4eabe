"""A source, written as one string, -> a stream of raw documents.

`PATH` (a file, a glob or a folder), `hf:NAME[:CONFIG][:SPLIT]`, `builtin:docs`, or a mix of those, `A=0.7,B=0.3`.
Nothing is cleaned here; docs/text.md has the rules.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from stentor.errors import UserError, nearest_name
from stentor.text.builtin_docs import read_builtin_docs
from stentor.text.document import Document, Tally
from stentor.text.hub import HubName, read_hub
from stentor.text.readers import file_format, read_documents

_WEIGHTED = re.compile(r"(.+)=([^=,]*)", re.DOTALL)
# Shares beyond these bounds are slips of the pen, and their quotients could leave the range of a float.
_MIN_WEIGHT, _MAX_WEIGHT = 1e-6, 1e6
_BUILTIN = {"docs": read_builtin_docs}
_ENDINGS = ".txt, .md, .jsonl or .parquet, each also with .gz or .zst"


def open_source(spec: str, tally: Tally | None = None) -> Iterator[Document]:
    """Open a source; a mistake in its name, or a missing file, is refused at once.

    Args:
        spec: see the module's text.
        tally: receives what readers drop or repair.

    Returns:
        The raw documents, in an order that depends on the source alone.

    Raises:
        UserError: the source does not exist, is damaged, or has no text.
        MissingDependencyError: a package that this kind of source needs is absent.
    """
    tally = Tally() if tally is None else tally
    spec = spec.strip()
    if not spec:
        raise UserError("the source of text is empty", fix="name a file, a folder, hf:NAME or builtin:docs")
    parts = _parse_mix(spec)
    if parts is None:
        return _open_single(spec, tally)
    streams = [(part, weight, _open_single(part, tally)) for part, weight in parts]
    return mix(streams, tally)


def read_texts(spec: str) -> Iterator[str]:
    """Yield the raw texts of a source in order, as evaluation scores them."""
    return (document.text for document in open_source(spec))


def _open_single(spec: str, tally: Tally) -> Iterator[Document]:
    if spec.startswith("hf:"):
        return read_hub(HubName.parse(spec), tally)
    if spec.startswith("builtin:"):
        name = spec.removeprefix("builtin:")
        if name not in _BUILTIN:
            raise UserError(f"no built-in source {spec!r}", fix=nearest_name(name, _BUILTIN))
        return _BUILTIN[name]()
    files = find_files(spec)
    return chain.from_iterable(read_documents(path, name, tally) for path, name in files)


# --- files ---


def find_files(spec: str) -> list[tuple[Path, str]]:
    """Return the files that a path, a folder or a glob stands for, and each one's short name, in a fixed order.

    Raises:
        UserError: there is no such file, or none that can be read.
    """
    path = Path(spec).expanduser()
    if _exists(path) and path.is_dir():
        found = [(file, file.relative_to(path).as_posix()) for file in _walk(path)]
        if not found:
            raise UserError(f"the folder {spec} has no file to read", fix=f"put files there that end in {_ENDINGS}")
    elif glob.has_magic(spec) and not _exists(path):
        found = [(match, match.as_posix()) for match in _expand(path) if match.is_file() and file_format(match)]
        if not found:
            raise UserError(f"no file matches {spec}", fix=f"check the pattern; files end in {_ENDINGS}")
    elif not _exists(path):
        raise UserError(f"no such file or folder: {spec}", fix=f"check the path{_hint(spec)}")
    elif not file_format(path):
        raise UserError(f"cannot tell how to read {spec}", fix=f"give it a name that ends in {_ENDINGS}")
    elif not path.is_file():  # texts are read more than once, and a pipe without a writer would wait for ever
        raise UserError(f"{spec} is not a regular file", fix="write the text to a file first")
    else:
        found = [(path, path.name)]
    return sorted(found, key=lambda item: item[1].encode(errors="surrogateescape"))


def _exists(path: Path) -> bool:
    """Tell whether there is such a file; a text that cannot even be a name is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _walk(folder: Path) -> Iterator[Path]:
    """Yield readable files below a folder; hidden ones are left out."""
    for parent in _folders(folder):
        for file in parent.iterdir():
            if not file.name.startswith(".") and file.is_file() and file_format(file):
                yield file


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and those below it; hidden ones and links, which may lead in circles, are left out.

    Raises:
        UserError: one of them may not be read; its files would be missing from the corpus.
    """
    for parent, folders, _ in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield Path(parent)


def _refuse_folder(error: OSError) -> NoReturn:
    raise UserError(f"the folder {error.filename} cannot be read ({error.strerror})", fix="check its permissions")


def _expand(pattern: Path) -> set[Path]:
    """Return what a glob matches; unlike Python's, a `**` does not follow links to folders."""
    if "**" not in pattern.parts:
        return {Path(match) for match in glob.glob(str(pattern))}  # noqa: PTH207 - absolute patterns
    place = pattern.parts.index("**")
    start, rest = Path(*pattern.parts[:place]), Path(*pattern.parts[place + 1 :])
    return {
        match
        for base in _expand(start)
        for folder in _folders(base)
        for match in _expand(Path(glob.escape(str(folder))) / (rest if rest.parts else "*"))
    }


def _hint(spec: str) -> str:
    if "," in spec:
        return "; a mix needs a weight for each part, such as a.txt=0.7,b.txt=0.3"
    return "; other sources are hf:NAME and builtin:docs"


# --- mixes ---


@dataclass(slots=True)
class _Part:
    name: str
    share: float
    documents: Iterator[Document]
    num_documents: int = 0
    num_bytes: int = 0


def mix(streams: list[tuple[str, float, Iterator[Document]]], tally: Tally) -> Iterator[Document]:
    """Interleave sources so that at every point each has its share of the bytes, to within one document.

    The next document comes from the source that is furthest behind its share (the first of equals), so the order is
    a function of the texts alone. A source that ends is noted in the tally, and the others go on in their proportions.
    """
    total = sum(weight for _, weight, _ in streams)
    parts = [_Part(name, weight / total, documents) for name, weight, documents in streams]
    while parts:
        part = min(parts, key=lambda part: part.num_bytes / part.share)
        document = next(part.documents, None)
        if document is None:
            parts.remove(part)
            _note_end(part, parts, tally)
            continue
        part.num_documents += 1
        part.num_bytes += document.num_bytes
        yield document


def _note_end(ended: _Part, remaining: list[_Part], tally: Tally) -> None:
    if remaining:
        tally.note(
            f"{ended.name} ended after {ended.num_documents} documents ({ended.num_bytes} bytes); "
            "the mix went on without it"
        )


def _parse_mix(spec: str) -> list[tuple[str, float]] | None:
    """Return (part, weight) for `A=0.7,B=0.3`; None when the text is one source."""
    fields = spec.split(",")
    matches = [_WEIGHTED.fullmatch(field.strip()) for field in fields]
    is_mix = any(matches) if len(fields) > 1 else bool(matches[0] and _is_number(matches[0][2]))
    if not is_mix or _exists(Path(spec)):
        return None
    parts = []
    for field, match in zip(fields, matches, strict=True):
        if not match or not _is_number(match[2]) or not _MIN_WEIGHT <= float(match[2]) <= _MAX_WEIGHT:
            raise UserError(
                f"{field.strip()!r} in the mix {spec!r} has no weight from {_MIN_WEIGHT:g} to {_MAX_WEIGHT:g}",
                fix="write every part as SOURCE=WEIGHT, such as a.txt=0.7,b.txt=0.3",
            )
        parts.append((match[1].strip(), float(match[2])))
    return parts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
