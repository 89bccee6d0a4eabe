"""The reference's layout in stock transformers of two major versions: the documented bug, and its repair."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from stentor.export.huggingface import export_huggingface
from stentor.export.reference import export_reference

PROGRAM = Path(__file__).with_name("open_reference.py")

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


def opened(consumer, folder: Path, *options: str) -> dict:
    """Return what stock transformers makes of a folder."""
    version, python = consumer
    result = subprocess.run(
        [python, PROGRAM, folder, *options],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.parent), "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found.pop("transformers"), found.pop("has_stentor")) == (version, False)
    return found


@pytest.mark.parametrize("family", ["byte-level", "tokenmonster"])
def test_stock_transformers_misreads_the_layout_and_our_export_repairs_it(
    models, monster_models, tmp_path, consumer, family
):
    original = {"byte-level": models, "tokenmonster": monster_models}[family]["llama"]
    export_reference(original, tmp_path / "reference")
    masters = [name for name in load_file(tmp_path / "reference" / "model.safetensors") if "_master" in name]
    projections = sorted(name.replace("_master", "") for name in masters)
    assert len(projections) == 2 * 7
    misread = opened(consumer, tmp_path / "reference", "--by-the-readme")
    assert misread["wrong"] == projections
    assert misread["loading"]["missing_keys"] == projections
    assert misread["wrong_by_the_readme"] == []
    export_huggingface(tmp_path / "reference", tmp_path / "repaired")
    assert opened(consumer, tmp_path / "repaired") == {"loading": {}, "wrong": []}
    for path in original.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "repaired" / path.name).read_bytes(), path.name
