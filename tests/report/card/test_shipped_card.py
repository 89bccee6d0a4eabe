"""The card that the package ships is what `stentor card` writes of the committed run: nothing in it was typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stentor.artifacts import sha256_of_file
from stentor.report.card.write import write_card

ROOT = Path(__file__).parents[3]
RUN = ROOT / "benchmarks" / "results" / "stentor-12m"
NAME = "stentor-12m"


@pytest.fixture(scope="module")
def shipped() -> Path:
    return ROOT / "src" / "stentor" / "models" / NAME


@pytest.mark.slow
def test_the_shipped_card_is_what_its_command_writes(shipped, tmp_path):
    folder = shutil.copytree(shipped, tmp_path / NAME, ignore=shutil.ignore_patterns("report"))
    written = write_card(folder, run_dir=RUN, results_dir=RUN / "results", about_path=RUN / "card.toml", replace=True)
    again = "docs/results/stentor-12m.md says how to write it again"
    assert written.path.read_text(encoding="utf-8") == (shipped / "README.md").read_text(encoding="utf-8"), again
    assert [path.name for path in written.pictures] == ["curves.png", "dynamics.png"]
    assert all((shipped / "report" / path.name).is_file() for path in written.pictures)


def test_the_shipped_card_has_every_section_but_the_comparison(shipped):
    card = (shipped / "README.md").read_text(encoding="utf-8")
    assert sha256_of_file(shipped / "model.gguf") in card
    assert "Not measured. `stentor" not in card
    for title in ("Training data", "Evaluation", "BLiMP", "Memorisation", "Contamination", "Samples", "Smaller forms"):
        assert f" {title}\n" in card
