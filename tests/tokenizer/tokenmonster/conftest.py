"""The published vocabularies and the reference's vectors, and a small vocabulary made here."""

import json
import random
from pathlib import Path

import pytest

from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.vocab_file import Settings, VocabFile, read_vocab


def vocab_of(tokens: list[bytes], capcode: int = 2, **settings) -> VocabFile:
    """Return a vocabulary of these tokens and the delete marker, their ids in the order of the table."""
    chosen = Settings(capcode=capcode, **settings)
    return build_vocab(numbered(dict.fromkeys({*tokens, chosen.delete_marker} - {b""}, 0.25)), chosen)


SMALL_TOKENS = [
    *(bytes([byte]) for byte in b" abcdefghilmnoprstuwy.,'-\nCDW0123456789\xc3\xa9\xcc\x81\xe2\x80\x99"),
    *(b" the", b" the ", b" th", b"he", b" hello", b" world", b"lo", b" of the", b"ing", b" in", b"'s", b".D"),
    *(
        b"DC",
        b"DW",
        b"D ",
        b"C ",
        b" 12",
        b"12",
        b"1",
        b" C the",
        b"C the",
        b"ca",
        b" cat",
        b" cat's",
        b"cats",
        b"\n\n",
    ),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Tables are cached in a folder of this test, and not in the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def small_vocab() -> VocabFile:
    return vocab_of(SMALL_TOKENS)


@pytest.fixture(scope="session")
def make_vocab():
    """Return the function that makes a vocabulary of bare tokens."""
    return vocab_of


@pytest.fixture(scope="session")
def small_tokens() -> list[bytes]:
    return SMALL_TOKENS


@pytest.fixture(scope="session")
def vocabs(shared) -> Path:
    return shared / "tokenmonster" / "vocabs"


@pytest.fixture(scope="session")
def vectors(shared) -> dict:
    return json.loads((shared / "tokenmonster" / "vectors.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def published(shared):
    """Return a function that opens a vocabulary by name, once."""
    opened: dict[str, VocabFile] = {}

    def open_by_name(name: str) -> VocabFile:
        if name not in opened:
            folder = shared / "tokenmonster"
            path = folder / name if (folder / name).is_file() else folder / "vocabs" / f"{name}.vocab"
            opened[name] = read_vocab(path)
        return opened[name]

    return open_by_name


CAPITALS = [
    *"ABCDW",
    *"abcd",
    "'",
    "\u2019",
    "\u0301",
    "\u0323",
    "1",
    "2",
    " ",
    "  ",
    "\n",
    "_",
    "-",
    "\u00c9",
    "\u00df",
]
CAPITALS += ["\u1e9e", "\u0130", "\U0001d400", "\u023a", "\u2160", "\u4e2d", "\uac01", "\u01c5", "\x7f", "\xbd"]


def odd_inputs(count: int, seed: int, pieces: list[bytes]) -> list[bytes]:
    """Return prose, code, random Unicode, runs of capitals, random bytes and joined tokens, a sixth of each."""
    source = random.Random(seed)
    prose = [text.encode(errors="replace") for text in mixed_strings(max(6, count // 3), seed)]
    unicode = [chr(c) for c in range(0x20, 0x3100)] + [chr(c) for c in range(0x1F600, 0x1F640)]
    made = list(prose)
    while len(made) < count:
        size = source.randint(0, 60)
        made += [
            "".join(source.choices(CAPITALS, k=size)).encode(),
            "".join(source.choices(unicode, k=size)).encode(),
            source.randbytes(size),
            b"".join(source.choices(pieces, k=size // 3)),
            source.choice(prose)[source.randrange(5) :] + source.randbytes(2) + source.choice(prose)[:40],
        ]
    return made[:count]


@pytest.fixture(scope="session")
def make_inputs():
    """Return the function that makes text of every kind that a tokenizer meets, and bytes that are none."""
    return odd_inputs
