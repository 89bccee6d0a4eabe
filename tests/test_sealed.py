"""Files of sealed folders, checked as they are read."""

from __future__ import annotations

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
