"""Ids are the same on every Python, though each knows another Unicode; the slow twin needs nothing but Python."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import stentor
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab

ASSIGNED_LATER = (
    "\u2c2f\u2c5f \u0870 \U00010570\U00010597 \ua7c0\ua7c1 \U0001e290 \u061d \u1734 \U00011f02 \u0cf3 \U0001e4d0"
)
"""Letters and marks, capitals among them, of Unicode 14 and 15."""
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.vocab_file import parse_vocab
given = json.load(sys.stdin)
assert not {"numpy", "numba"} & set(sys.modules)
found = []
for packed in given["vocabs"]:
    slow = Reference(parse_vocab(bytes.fromhex(packed), "it"))
    for text in given["texts"]:
        ids = slow.encode(bytes.fromhex(text))
        found.append([slow.prepare(bytes.fromhex(text)).hex(), ids, slow.decode(ids).hex()])
json.dump(found, sys.stdout)
"""


@cache
def pythons() -> dict[str, str]:
    """Return other interpreters that this package supports, by version: on the path, and of pyenv."""
    names = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    candidates = [name for name in names if name]
    candidates += map(str, sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python")))
    found = {}
    for python in candidates:
        code = "import sys; print(*sys.version_info[:2])"
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
        version = tuple(map(int, done.stdout.split()))
        if version >= (3, 11) and version != sys.version_info[:2]:
            found.setdefault(".".join(map(str, version)), python)
    return found


def test_ids_on_every_python_that_is_installed(small_vocab, small_tokens, make_vocab, make_inputs):
    if not pythons():
        pytest.skip("no other Python is installed")
    level1 = make_vocab([token.replace(b"D", b"\x7f") for token in small_tokens], capcode=1)
    every_step = make_vocab(small_tokens, normalization=255)
    vocabs = [small_vocab, level1, every_step]
    texts = [*make_inputs(120, 21, small_tokens), ASSIGNED_LATER.encode(), ASSIGNED_LATER.replace(" ", "aB").encode()]
    expected = [
        [slow.prepare(text).hex(), slow.encode(text), slow.decode(slow.encode(text)).hex()]
        for slow in map(Reference, vocabs)
        for text in texts
    ]
    given = json.dumps({"vocabs": [pack_vocab(v).hex() for v in vocabs], "texts": [text.hex() for text in texts]})
    sources = Path(stentor.__file__).parents[1]
    for version, python in pythons().items():
        command = [python, "-I", "-S", "-c", SCRIPT, str(sources)]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{version}: {done.stderr}"
        assert json.loads(done.stdout) == expected, version
