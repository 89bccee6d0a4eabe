"""The whole card: its sections, its pictures, the same bytes again, and what is refused before anything is written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.artifacts import write_file
from stentor.errors import MissingDependencyError, UserError
from stentor.report.card.metadata import eval_results
from stentor.report.card.results import COMMANDS, Results
from stentor.report.card.write import SECTIONS, render_card, write_card

ABOUT = """
name = "A <model>"
license = "apache-2.0"
languages = ["en"]
[[data]]
name = "Wiki"
license = "cc-by-sa-4.0"
dataset = "org/wiki"
"""
ALWAYS = {"Architecture", "Tokenizer", "Uses", "Out of scope", "Ethics and biases", "Limits", "Checksums", "Citation"}


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def titles(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_a_full_card(folder, run_folder, everything, put):
    write_file(folder / "card.toml", ABOUT)
    written = write_card(folder, run_dir=run_folder, results_dir=put())
    assert written.path == folder / "README.md"
    assert [path.relative_to(folder).as_posix() for path in written.pictures] == [
        "report/curves.png",
        "report/dynamics.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.pictures)
    assert (written.left_out, written.material.results.missing) == ((), {})
    card = ModelCard.load(written.path)
    assert titles(card.text) == [title for title, _ in SECTIONS]
    assert "# A &lt;model&gt;" in card.text
    data: Any = card.data
    assert (data.license, data.datasets) == ("apache-2.0", ["org/wiki"])
    assert data.eval_results == eval_results(written.material)
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", card.text):
        assert (folder / picture).is_file()


def test_its_links_lead_to_its_sections(material):
    text, _ = render_card(material)
    anchors = {title.lower().replace(" ", "-") for title in titles(text)}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors


def test_it_renders_as_tables_and_code(material):
    text, _ = render_card(material)
    rendered = MarkdownIt().enable("table").render(text.split("\n---\n", 1)[1])
    assert not re.search(r"<p>\|", rendered)
    for row in re.findall(r"<thead>\n<tr>(.*?)</tr>\n</thead>\n<tbody>(.*?)</tbody>", rendered, re.DOTALL):
        widths = {line.count("<td") for line in row[1].split("</tr>") if "<td" in line}
        assert widths == {row[0].count("<th")}
    assert "<b>" not in rendered
    assert "nan" not in re.sub(r"<code.*?</code>", "", rendered, flags=re.DOTALL).split()


def test_a_model_alone(folder):
    written = write_card(folder)
    text = written.path.read_text(encoding="utf-8")
    assert set(titles(text)) >= ALWAYS
    assert written.left_out == ("Comparison", "Samples", "Smaller forms", "Speed")
    assert written.pictures == ()
    data: Any = ModelCard(text).data
    assert data.eval_results is None


def test_equal_files_give_an_equal_card(folder, run_folder, everything, put, tmp_path, monkeypatch):
    monkeypatch.setattr("stentor.report.card.write.plot_dynamics", lambda *args, **kwargs: b"")  # see test_dynamics.py
    first = write_card(folder, run_dir=run_folder, results_dir=put())
    card, picture = first.path.read_bytes(), first.pictures[0].read_bytes()
    again = write_card(folder, run_dir=run_folder, results_dir=put(), replace=True)
    assert (again.path.read_bytes(), again.pictures[0].read_bytes()) == (card, picture)
    assert str(tmp_path).encode() not in card


def test_what_lies_beside_is_found(folder, run_folder, put, tmp_path, monkeypatch):
    for name in ("plot_curves", "plot_dynamics"):  # drawn in other tests
        monkeypatch.setattr(f"stentor.report.card.write.{name}", lambda *args, **kwargs: b"")
    run = shutil.copytree(run_folder, tmp_path / "run")
    write_file(run / "card.toml", 'name = "Of the run"')
    write_file(folder / "card.toml", 'name = "Of the folder"')
    write_file(folder / "results" / "generate.json", '{"settings": {}, "completions": []}')
    with pytest.raises(UserError, match=r"results/generate\.json is not what"):
        write_card(folder, run_dir=run)
    written = write_card(folder, run_dir=run, results_dir=put())
    assert written.material.name == "Of the run"
    assert write_card(folder, results_dir=put(), replace=True).material.name == "Of the folder"


def test_a_card_that_is_there_is_kept(folder):
    write_file(folder / "README.md", "mine")
    with pytest.raises(UserError, match="already exists") as raised:
        write_card(folder)
    assert "--force" in raised.value.fix
    assert (folder / "README.md").read_text() == "mine"
    write_card(folder, replace=True)
    assert (folder / "README.md").read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [("evaluate", {"model": "m", "vocab_size": 8000}), ("bench", {"results": [], "num_parameters": 1})],
)
def test_results_of_another_model_are_refused(folder, put, name, value):
    with pytest.raises(UserError, match=rf"{name}\.json is of another model"):
        write_card(folder, results_dir=put(**{name: value}))
    assert not (folder / "README.md").exists()


def test_without_matplotlib_its_extra_is_named(folder, run_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="matplotlib"):
        write_card(folder, run_dir=run_folder)
    assert not (folder / "README.md").exists()


SECTION_OF = {
    "compare": "Comparison",
    "generate": "Samples",
    "quantization": "Smaller forms",
    "bench": "Speed",
}


@pytest.mark.usefixtures("few_resamples")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.sets(st.sampled_from(sorted(COMMANDS))))
def test_whatever_was_measured_is_there_and_nothing_else(material, kinds):
    """Any of the files may be missing: its section is left out, or says which command fills it."""
    results = Results(tuple(found for found in material.results.found if found.kind in kinds))
    alone = dataclasses.replace(material.subject, run=None)
    text, left_out = render_card(dataclasses.replace(material, results=results, subject=alone))
    assert set(left_out) == {title for kind, title in SECTION_OF.items() if kind not in kinds}
    assert titles(text) == [title for title, _ in SECTIONS if title not in left_out]
    assert set(results.missing) == set(COMMANDS) - kinds
    for kind in ("evaluate", "contamination", "memorization"):
        assert (f"> {kind}.json` in the folder of results fills this." in text) is (kind not in kinds)
    sources = re.findall(r"^\| `([a-z]+)\.json` \| the results \|", text, re.MULTILINE)
    assert set(sources) == kinds


def test_results_of_a_named_folder_go_before_those_beside(folder, put, tmp_path):
    write_file(folder / "results" / "evaluate.json", '{"model": "m"}')
    assert set(write_card(folder).material.results.missing) == set(COMMANDS) - {"evaluate"}
    written = write_card(folder, results_dir=put(), replace=True)
    assert set(written.material.results.missing) == set(COMMANDS)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ('license = "Apache"', "license 'Apache' is none that the Hugging Face Hub knows"),
        ("nmae = 1", "there is no key nmae"),
        ("year = '2026'", "year is '2026', not a whole number"),
    ],
)
def test_a_makers_mistake_leaves_nothing_behind(folder, run_folder, about, sentence):
    write_file(folder / "card.toml", about)
    with pytest.raises(UserError, match=re.escape(sentence)):
        write_card(folder, run_dir=run_folder)
    assert not (folder / "README.md").exists()
    assert not (folder / "report").exists()
