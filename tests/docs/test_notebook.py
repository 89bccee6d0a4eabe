"""The notebook for a T4: stripped in git, its commands understood, and run from top to bottom as the tiny preset."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from doc_blocks import ROOT, commands, stentor_arguments

NOTEBOOK = ROOT / "notebooks" / "stentor_t4.ipynb"
PRESETS = ("t4", "tiny")
SHELL = "%%bash -eo pipefail\n"
"""What a cell of commands begins with: behind a `!`, or without it, a command that fails would go unnoticed."""


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_a_valid_notebook_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("text", ["hub", "builtin"])
@pytest.mark.parametrize("preset", PRESETS)
def test_its_commands_are_understood_and_its_settings_make_a_recipe(notebook, preset, text, monkeypatch):
    from test_commands import complaint

    from stentor.config import Recipe

    monkeypatch.setattr(os, "environ", dict(os.environ, STENTOR_NOTEBOOK_PRESET=preset))
    settings = next(cell.source for cell in notebook.cells if cell.id == "settings")
    exec(settings.replace('TEXT = "hub"', f'TEXT = "{text}"'), {})
    overrides = re.findall(r"--set (\S+)", os.environ["SETTINGS"])
    assert Recipe.load(os.environ["RECIPE"], overrides=overrides).name == os.environ["NAME"]
    seen = set()
    for cell in notebook.cells:
        if cell.source.startswith(SHELL):
            script = re.sub(r"\$(\w+)", lambda match: os.environ[match[1]], cell.source.partition("\n")[2])
            for arguments in filter(None, map(stentor_arguments, commands(script))):
                assert complaint(arguments) is None, arguments
                seen.add(arguments[0])
    assert seen == {"doctor", "prepare", "train", "evaluate", "export"}


def test_a_failing_command_ends_the_notebook(notebook):
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not [source for source in code if re.search(r"^\s*!", source, re.MULTILINE)]
    assert all(source.startswith(SHELL) for source in code if re.search(r"^stentor ", source, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_runs_from_top_to_bottom_and_once_more_after_a_disconnection(tmp_path):
    first, again = execute(tmp_path), execute(tmp_path)
    for cells in (first, again):
        assert "bits per byte" in cells["evaluate"]
        assert "proven in llama.cpp" in cells["export"]
        assert "ready to share" in cells["push"]
    assert "bytes per token" in first["prepare"]
    assert "prepare" not in again, "data that is there is not made again"
    assert first["evaluate"] == again["evaluate"], "a run that is finished is not trained again"
    assert {"curves", "generate", "cost"} <= set(first)


def execute(folder: Path) -> dict[str, str]:
    """Run the notebook in a process of its own, offline, on the CPU; return what each cell printed or showed."""
    output = folder / "executed.ipynb"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "STENTOR_NOTEBOOK_PRESET": "tiny",
        "STENTOR_NOTEBOOK_FOLDER": str(folder / "drive"),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    script = (
        "import sys, nbformat\nfrom nbclient import NotebookClient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(notebook, timeout=900, kernel_name='python3').execute(); nbformat.write(notebook, sys.argv[2])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, NOTEBOOK, output],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    cells = nbformat.read(output, as_version=4).cells
    return {cell.id: _shown(cell) for cell in cells if cell.get("outputs")}


def _shown(cell) -> str:
    """Return what a cell printed on stdout, or that it displayed something."""
    return "".join(
        output.get("text", "") if output.output_type == "stream" and output.name == "stdout" else "[shown]"
        for output in cell.outputs
        if output.output_type != "stream" or output.name == "stdout"
    )
