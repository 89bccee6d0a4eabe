"""`builtin:docs`: the English documentation that every Python installation carries, as training text.

In this order: the topics of the language reference, the docstrings of the standard library, and for each installed
package its description and its docstrings. Sources are parsed with `ast`; nothing is imported. The order depends on
names alone, so the text is a function of the Python version and of the installed packages.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from importlib import metadata
from pathlib import Path, PurePosixPath

from stentor.text.document import Document
from stentor.text.prose import prose_paragraphs

_SKIPPED_FOLDER_NAMES = """
    test tests testing _testing test_data testdata benchmarks examples site-packages dist-packages __pycache__ idlelib
    lib2to3 turtledemo encodings pydoc_data ensurepip vendor vendored _vendor _vendored extern externals _externals
    third_party thirdparty
"""
_SKIPPED_FOLDERS = frozenset(_SKIPPED_FOLDER_NAMES.split())
_SKIPPED_FILES = re.compile(r"(test_.*|.*_test|tests?|conftest|setup)\.py")
_OWN_NAME = "stentor"  # its documentation changes with every commit; the corpus should not
# Parsing is what takes time: a file is parsed only if this share of it is text between triple quotes.
_MIN_DOCSTRING_SHARE = 0.12
_MAX_FILE_BYTES = 600_000
_MAX_PARSED_BYTES = 1_500_000
_MAX_PACKAGE_CHARACTERS = 400_000
_MAX_DESCRIPTION_CHARACTERS = 30_000
_MIN_DOCUMENT_CHARACTERS = 200
_MIN_REPEATABLE_CHARACTERS = 60

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Draft:
    """A document before its prose is picked: sections of a heading (a qualified name, or empty) and a text."""

    id: str
    source: str
    sections: list[tuple[str, str]]


def read_builtin_docs() -> Iterator[Document]:
    """Yield one document per topic, package description and module: prose only, no long paragraph twice."""
    seen: set[bytes] = set()
    library = Path(sysconfig.get_path("stdlib"))
    yield from _documents(_topics(library), seen)
    modules = _modules(_library_files(library), library, "Python standard library", parse_all=True)
    yield from _documents(modules, seen)
    for distribution, message in _distributions():
        size = 0
        for document in _documents(_package(distribution, message), seen):
            yield document
            size += len(document.text)
            if size > _MAX_PACKAGE_CHARACTERS:
                break


def _documents(drafts: Iterable[_Draft], seen: set[bytes]) -> Iterator[Document]:
    for draft in drafts:
        parts = []
        for heading, text in draft.sections:
            paragraphs = [paragraph for paragraph in prose_paragraphs(text) if _is_new(paragraph, seen)]
            if any(len(paragraph) >= _MIN_REPEATABLE_CHARACTERS for paragraph in paragraphs):
                parts += [heading, *paragraphs] if heading and heading != paragraphs[0] else paragraphs
        text = "\n\n".join(parts)
        if len(text) >= _MIN_DOCUMENT_CHARACTERS:
            yield Document(text, draft.id, draft.source)


def _is_new(paragraph: str, seen: set[bytes]) -> bool:
    """Tell whether a paragraph was not met before; short ones may come again."""
    if len(paragraph) < _MIN_REPEATABLE_CHARACTERS:
        return True
    digest = hashlib.blake2b("".join(paragraph.split()).encode(errors="replace"), digest_size=12).digest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


def _topics(library: Path) -> Iterator[_Draft]:
    """Yield the language reference as `help()` shows it; some systems install Python without it."""
    try:
        tree = ast.parse((library / "pydoc_data" / "topics.py").read_bytes())
    except (OSError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for name in sorted(topics):
                yield _Draft(f"topics/{name}", "Python language reference", [("", inspect.cleandoc(topics[name]))])


def _library_files(library: Path) -> Iterator[PurePosixPath]:
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        yield from (PurePosixPath(Path(folder, name).relative_to(library)) for name in names if name.endswith(".py"))


def _package(distribution: metadata.Distribution, message: Message) -> Iterator[_Draft]:
    label = f"{message['Name']} {message['Version']}"
    description = message["Description"] or message.get_payload()
    if isinstance(description, str):
        yield _Draft(f"{message['Name']}/description", label, [("", description[:_MAX_DESCRIPTION_CHARACTERS])])
    files = [PurePosixPath(file.as_posix()) for file in distribution.files or [] if file.suffix == ".py"]
    yield from _modules(files, Path(str(distribution.locate_file(""))), label, parse_all=False)


def _distributions() -> list[tuple[metadata.Distribution, Message]]:
    """Return the installed packages and what they say of themselves, by name, each once, ours left out."""
    found: dict[str, list[tuple[str, metadata.Distribution, Message]]] = {}
    for distribution in metadata.distributions():
        message = _message(distribution)
        name = _normalized(str(message["Name"] or ""))
        if name and name != _OWN_NAME:
            found.setdefault(name, []).append((str(message["Version"]), distribution, message))
    chosen = [min(found[name], key=lambda item: item[0]) for name in sorted(found)]
    return [(distribution, message) for _, distribution, message in chosen]


def _message(distribution: metadata.Distribution) -> Message:
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    except UnicodeDecodeError:
        text = ""
    return message_from_string(text or "")


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(files: Iterable[PurePosixPath], root: Path, source: str, *, parse_all: bool) -> Iterator[_Draft]:
    """Yield each module's docstrings: public modules first, then by depth and name."""
    budget = _MAX_PARSED_BYTES
    for file in sorted(filter(_is_wanted, files), key=_reading_order):
        if budget < 0:
            return
        name = ".".join(part for part in file.with_suffix("").parts if part != "__init__")
        data = _read(root / file, min_docstring_share=0 if parse_all else _MIN_DOCSTRING_SHARE)
        if data:
            yield _Draft(name, source, _sections(data, name))
            budget -= 0 if parse_all else len(data)


def _is_wanted(file: PurePosixPath) -> bool:
    folders = file.parts[:-1]
    return not (
        ".." in folders
        or _SKIPPED_FOLDERS.intersection(folders)
        or any(folder.startswith("config-") for folder in folders)
        or _SKIPPED_FILES.fullmatch(file.name)
    )


def _reading_order(file: PurePosixPath) -> tuple[bool, int, tuple[str, ...]]:
    is_private = any(part.startswith("_") and part != "__init__.py" for part in file.parts)
    return is_private, len(file.parts), file.parts


def _read(path: Path, *, min_docstring_share: float) -> bytes:
    """Return a source file; nothing if it is missing, large or holds little documentation."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    num_quoted_bytes = sum(map(len, data.split(b'"""')[1::2]))
    is_wanted = len(data) <= _MAX_FILE_BYTES and num_quoted_bytes >= min_docstring_share * len(data)
    return data if is_wanted else b""


def _sections(data: bytes, name: str) -> list[tuple[str, str]]:
    """Return (qualified name, docstring) pairs of a module; none if it cannot be parsed.

    The garbage collector rests meanwhile: a syntax tree has no cycles, and scanning it takes a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            return list(_docstrings(ast.parse(data), name))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    finally:
        if was_enabled:
            gc.enable()


def _docstrings(node: ast.Module | _Definition, name: str) -> Iterator[tuple[str, str]]:
    """Yield (qualified name, docstring) of a module or class and of the public definitions in it."""
    docstring = ast.get_docstring(node)
    if docstring:
        yield name, docstring
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, _Definition) and not child.name.startswith("_"):
                yield from _docstrings(child, f"{name}.{child.name}")
