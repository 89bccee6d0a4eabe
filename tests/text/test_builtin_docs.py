"""The embedded documentation is read, never imported, in an order that depends on names alone."""

from __future__ import annotations

import gc
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from stentor.text import builtin_docs
from stentor.text.builtin_docs import read_builtin_docs
from stentor.text.document import Document

PROSE = "This is about {} and how it is used in the rest of the library, which is explained in what follows. "
MODULE = '''"""{module}"""

raise RuntimeError("a module of this test was imported")


class Public:
    """{cls}"""

    def method(self):
        """{method}"""

        def inner():
            """{inner}"""

    def _private(self):
        """{private}"""

    class Nested:
        """{nested}"""


async def function(argument="caf\\xe9"):
    """{function}"""


def documented_elsewhere():
    pass
'''


def module(name: str) -> str:
    parts = ("module", "cls", "method", "inner", "private", "nested", "function")
    return MODULE.format(**{part: PROSE.format(f"{part} of {name}") * 2 for part in parts})


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small library and three packages; the folder `packages` takes more."""
    library, packages = tmp_path / "library", tmp_path / "packages"
    files = {
        library
        / "pydoc_data"
        / "topics.py": f"topics = {{'while': '{PROSE.format('while') * 3}', 'assert': '{PROSE.format('assert') * 3}'}}",
        library / "b.py": module("b"),
        library / "a" / "__init__.py": module("a"),
        library / "a" / "_hidden.py": module("hidden"),
        library / "a" / "broken.py": "def (",
        library / "a" / "nul.py": "x = '\0'",
        library / "test" / "test_a.py": module("test"),
        library / "site-packages" / "elsewhere.py": module("elsewhere"),
    }
    for path, text in files.items():
        write(path, text)
    install(packages, "zeta", {"zeta/__init__.py": module("zeta"), "zeta/tests/test_x.py": module("zeta tests")})
    install(packages, "Alpha_Beta", {"alpha.py": module("alpha"), "alpha_vendor/_vendor/x.py": module("vendor")})
    install(packages, "stentor", {"own.py": module("own")})
    monkeypatch.setattr(builtin_docs.sysconfig, "get_path", lambda name: str(library))
    real = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: real(path=[str(packages)]))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def install(packages: Path, name: str, files: dict[str, str], version: str = "1.0", description: str = "") -> None:
    info = packages / f"{name}-{version}.dist-info"
    description = description or PROSE.format(f"the package {name}") * 3
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n# {name}\n\n{description}\n")
    write(info / "RECORD", "".join(f"{file},,\n" for file in files))
    for file, text in files.items():
        write(packages / file, text)


def documents() -> dict[str, Document]:
    found = list(read_builtin_docs())
    assert len({document.id for document in found}) == len(found)
    return {document.id: document for document in found}


def test_what_is_read_and_in_which_order(installation):
    found = documents()
    assert list(found) == [
        "topics/assert",
        "topics/while",
        "b",
        "a",
        "a._hidden",
        "Alpha_Beta/description",
        "alpha",
        "zeta/description",
        "zeta",
    ]
    assert found["topics/while"].source == "Python language reference"
    assert found["b"].source == "Python standard library"
    assert found["alpha"].source == "Alpha_Beta 1.0"


def test_module_has_the_docstrings_of_public_definitions_under_their_names(installation):
    paragraphs = documents()["b"].text.split("\n\n")
    assert paragraphs[0::2] == ["b", "b.Public", "b.Public.method", "b.Public.Nested", "b.function"]
    assert [text.split()[3] for text in paragraphs[1::2]] == ["module", "cls", "method", "nested", "function"]


def test_nothing_is_imported(installation):
    before = set(sys.modules)
    documents()
    assert {"b", "a", "alpha", "zeta"}.isdisjoint(set(sys.modules) - before)


def test_garbage_collection_is_left_as_it_was(installation):
    for switch, expected in ((gc.disable, False), (gc.enable, True)):
        switch()
        documents()
        assert gc.isenabled() is expected


def test_long_paragraphs_come_once_short_ones_may_return(installation):
    text = f'"""{PROSE.format("something said twice")}\n\nSame.\n\n{PROSE.format("{}")}"""\n'
    install(installation / "packages", "gamma", {"one.py": text.format("one") * 1, "two.py": text.format("two")})
    builtin_docs_text = "\n".join(document.text for document in documents().values())
    assert builtin_docs_text.count("something said twice") == 1


def test_a_package_is_cut_at_its_bound(installation, monkeypatch):
    install(installation / "packages", "big", {f"big{n}.py": module(f"big{n}") for n in range(20)})
    everything = [name for name in documents() if name.startswith("big")]
    monkeypatch.setattr(builtin_docs, "_MAX_PACKAGE_CHARACTERS", 3000)
    bounded = [name for name in documents() if name.startswith("big")]
    assert len(everything) == 21
    assert 1 < len(bounded) < 8
    assert bounded == everything[: len(bounded)]


def test_code_without_much_documentation_is_not_parsed(installation):
    install(installation / "packages", "code", {"code.py": f'"""{PROSE.format("code") * 2}"""\n' + "x = 1\n" * 2000})
    found = documents()
    assert "code" not in found
    assert "code/description" in found


def test_of_two_versions_of_a_package_one_is_read(installation):
    for version in ("2.0", "1.5"):
        install(installation / "packages", "twice", {}, version=version, description=PROSE.format(version) * 3)
    assert documents()["twice/description"].source == "twice 1.5"


def test_damaged_packages_do_no_harm(installation):
    packages = installation / "packages"
    (packages / "empty-1.0.dist-info").mkdir()
    write(packages / "gone-1.0.dist-info" / "METADATA", "Name: gone\nVersion: 1.0\n\nshort")
    write(packages / "gone-1.0.dist-info" / "RECORD", "gone/missing.py,,\n../../outside.py,,\n")
    (packages / "latin-1.0.dist-info").mkdir()
    (packages / "latin-1.0.dist-info" / "METADATA").write_bytes(b"Name: latin\nVersion: 1\n\ncaf\xe9")
    write(packages / "norecord-1.0.dist-info" / "METADATA", f"Name: norecord\nVersion: 1.0\n\n{PROSE.format('it') * 3}")
    found = documents()
    assert "norecord/description" in found
    assert "zeta" in found


def test_python_without_topics(installation):
    (installation / "library" / "pydoc_data" / "topics.py").unlink()
    assert next(iter(documents())) == "b"


def test_order_of_the_file_system_does_not_matter(installation, monkeypatch):
    expected = list(documents())
    real_walk, distributions = builtin_docs.os.walk, metadata.distributions

    def reversed_walk(top):
        for parent, folders, names in real_walk(top):
            folders.reverse()
            yield parent, folders, names[::-1]

    monkeypatch.setattr(builtin_docs.os, "walk", reversed_walk)
    monkeypatch.setattr(metadata, "distributions", lambda: reversed(list(distributions())))
    assert list(documents()) == expected


@pytest.mark.slow
def test_this_installation():
    start = time.perf_counter()
    found = list(read_builtin_docs())
    seconds = time.perf_counter() - start
    num_bytes = sum(document.num_bytes for document in found)
    assert 1_000_000 < num_bytes < 20_000_000
    assert seconds < 60
    assert found == list(read_builtin_docs())
    assert "The assert statement" not in found[0].text or found[0].id == "topics/assert"
    assert all(document.source and len(document.text) >= 200 for document in found)
    words = " ".join(document.text for document in found[::20]).split()
    assert sum(word in ("the", "a", "of", "is", "to") for word in words) > 0.08 * len(words)
