"""Names that lead out of a folder, on any system."""

from __future__ import annotations

import pytest

from stentor.within import leads_out


@pytest.mark.parametrize(
    "name", ["a.txt", "a/b.txt", ".hidden", "a..b", "...", "a/./b", "model-00001-of-00002.safetensors"]
)
def test_names_within_a_folder(name):
    assert not leads_out(name)


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "/a",
        "//host/a",
        "\\a",
        "..\\a",
        "C:\\a",
        "C:a",
        "c:/a",
        "",
        ".",
        "a\0b",
        "\ud800",
    ],
)
def test_names_that_lead_out_of_it(name):
    assert leads_out(name)
