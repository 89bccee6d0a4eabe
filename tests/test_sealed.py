"""Files of sealed folders, checked as they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stentor.artifacts import MANIFEST_NAME, staged_directory
from stentor.errors import CorruptArtifactError
from stentor.sealed import require_sealed


@pytest.fixture
def folder(tmp_path):
    with staged_directory(tmp_path / "made", kind="model") as staging:
        staging.write("a.bin", b"as it was sealed")
    return tmp_path / "made"


def test_what_was_sealed_is_taken_as_bytes_or_as_an_array(folder):
    data = (folder / "a.bin").read_bytes()
    require_sealed(folder / "a.bin", data)
    require_sealed(folder / "a.bin", np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("data", [b"", b"as it was sealeD", b"as it was sealed\n"])
def test_anything_else_is_refused_with_both_ways_out(folder, data):
    with pytest.raises(CorruptArtifactError, match=r"a\.bin does not match its checksum") as caught:
        require_sealed(folder / "a.bin", data)
    assert caught.value.fix.startswith(
        "make this artifact again; or, if you changed it on purpose, remove manifest.json"
    )


def test_a_file_that_came_later_and_a_folder_without_a_manifest_are_never_refused(folder):
    require_sealed(folder / "b.bin", b"anything")
    (folder / MANIFEST_NAME).unlink()
    require_sealed(folder / "a.bin", b"anything")


def test_a_damaged_manifest_is_refused_whatever_the_file(folder):
    (folder / MANIFEST_NAME).write_bytes(b"{")
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json is damaged"):
        require_sealed(folder / "a.bin", b"as it was sealed")


# --- files of a folder within ---


@pytest.fixture
def inner(tmp_path):
    with staged_directory(tmp_path / "made", kind="finetune") as staging:
        staging.write("merged/a.bin", b"as it was sealed")
    return tmp_path / "made" / "merged" / "a.bin"


def test_the_manifest_above_tells_of_a_file(inner, monkeypatch):
    require_sealed(inner, b"as it was sealed")
    with pytest.raises(CorruptArtifactError, match=r"a\.bin does not match its checksum") as caught:
        require_sealed(inner, b"as it was sealeD")
    assert caught.value.fix.endswith(f"remove {MANIFEST_NAME} in {inner.parents[1]}")
    monkeypatch.chdir(inner.parent)
    with pytest.raises(CorruptArtifactError, match=r"a\.bin does not match its checksum"):
        require_sealed(Path("a.bin"), b"as it was sealeD")


def test_a_manifest_beside_the_file_counts_before_the_one_above(inner):
    with staged_directory(inner.parent / "again", kind="model") as staging:
        staging.write("a.bin", b"another")
    again = inner.parent / "again" / "a.bin"
    require_sealed(again, b"another")
    (inner.parent / MANIFEST_NAME).write_bytes((again.parent / MANIFEST_NAME).read_bytes())
    require_sealed(inner, b"another")


def test_a_manifest_two_folders_above_tells_of_nothing(inner):
    require_sealed(inner.parent / "deeper" / "a.bin", b"anything")


def test_a_damaged_manifest_above_is_refused(inner):
    path = inner.parents[1] / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b"finetune", b"finetun3"))
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json was altered"):
        require_sealed(inner, b"as it was sealed")


@pytest.mark.parametrize("data", [b'{"name": "a web page", "icons": []}', b"[]", b"", b"\xff{"])
def test_another_program_s_manifest_above_tells_of_nothing(inner, data):
    (inner.parents[1] / MANIFEST_NAME).write_bytes(data)
    require_sealed(inner, b"anything")
