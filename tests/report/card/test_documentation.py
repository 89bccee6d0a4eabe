"""docs/card.md says what is so: its commands, its example of a maker's words, its table of files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stentor.artifacts import write_file
from stentor.report.card.about import About, DataSource, Power, Work, read_about
from stentor.report.card.energy import board_watts
from stentor.report.card.results import COMMANDS, EMISSIONS_NAME

DOCS = (Path(__file__).parents[3] / "docs" / "card.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}[^\n]*\n(.*?)```", DOCS, re.DOTALL) if containing in text]
    return found


def test_the_table_names_every_file_and_its_command():
    rows = dict(re.findall(r"^\| `([a-z]+\.json)` \| `([^`]+)` \|", DOCS, re.MULTILINE))
    assert rows == {f"{kind}.json": command for kind, command in COMMANDS.items()}
    assert f"| `{EMISSIONS_NAME}` | `codecarbon monitor" in DOCS


def test_the_script_fills_every_file():
    lines = block("sh", "mkdir -p results").strip().splitlines()
    filled = [line.rpartition("> results/")[2] for line in lines if "> results/" in line]
    assert sorted(filled) == sorted(f"{kind}.json" for kind in COMMANDS)
    assert len(lines) == len(COMMANDS) + 2
    for line in lines[1:]:
        words = shlex.split(line)
        assert words[0] == "stentor"
        if "results/" in words[-1] and words[1] != "card":
            assert "--json" in words
            assert words[1] == COMMANDS[words[-1].removeprefix("results/").removesuffix(".json")].split()[1]


def test_the_example_of_a_makers_words_is_read(tmp_path):
    text = block("toml", "[[data]]")
    write_file(path := tmp_path / "card.toml", text)
    about = read_about(path)
    assert about.license == "apache-2.0"
    assert about.data[0].name == "Python's documentation"
    assert about.energy.watts == 15.0


@pytest.mark.parametrize(("made", "section"), [(DataSource, "[[data]]"), (Work, "[[related]]"), (Power, "[energy]")])
def test_the_example_has_every_key(made, section):
    text = block("toml", "[[data]]").split(section)[1].split("\n[")[0]
    assert set(re.findall(r"^(\w+) =", text, re.MULTILINE)) == set(made.__dataclass_fields__)


def test_the_example_has_every_key_of_the_model():
    keys = set(re.findall(r"^(\w+) =", block("toml", "[[data]]").split("[[data]]")[0], re.MULTILINE))
    left = set(About.__dataclass_fields__) - keys
    assert left == {"data", "related", "energy", "license_name", "license_link"}
    assert "license_name and license_link" in DOCS


def test_the_power_that_it_names_is_that_of_the_table():
    said = re.search(r"T4 (\d+) W, A100 SXM (\d+) W, H100 SXM and H200 (\d+) W", DOCS)
    assert said is not None
    named = ("Tesla T4", "NVIDIA A100-SXM4-80GB", "NVIDIA H200")
    assert [float(watts) for watts in said.groups()] == [board_watts(name) for name in named]
    assert board_watts("NVIDIA H100 80GB HBM3") == board_watts("NVIDIA H200")
