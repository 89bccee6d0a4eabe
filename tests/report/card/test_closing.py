"""Energy, works, citation, checksums, and the files that all numbers are from."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.artifacts import write_file
from stentor.report.card.about import About, Power, Work
from stentor.report.card.closing import checksums, citation, impact, provenance, related
from stentor.report.card.results import read_results


def stated(material, **values):
    return dataclasses.replace(material, about=About(**values))


def test_an_estimate_is_called_one(material):
    text = impact(material)
    assert "| Hardware | NVIDIA H200 |" in text
    assert "| Time | 8.33 min |" in text
    assert "| Energy, estimated | 0.194 kWh |" in text  # 2 x 700 W x 500 s
    assert "| CO2 equivalent, estimated | not known" in text
    assert "An estimate, not a measurement" in text
    assert "| CO2 equivalent, estimated | 0.0972 kg |" in impact(
        stated(material, energy=Power(kg_co2e_per_kwh=0.5, source="the grid's operator"))
    )


def test_a_measurement_is_called_one(material, put):
    write_file(put() / "emissions.csv", "duration,energy_consumed,emissions\n7200,0.5,0.25\n")
    text = impact(dataclasses.replace(material, results=read_results(put())))
    assert "| Time | 2.00 h |" in text
    assert "| Energy | 0.5 kWh |" in text
    assert "| CO2 equivalent | 0.25 kg |" in text
    assert "stimate" not in text.replace("estimates the rest", "")


def test_nothing_known_says_how_to_measure(bare):
    assert impact(bare).startswith("Not measured. `codecarbon monitor")


def test_teachers_are_not_forgotten(material):
    run = material.subject.run
    log = dataclasses.replace(run.log, starts=({**run.start, "num_teacher_parameters": 10},))
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, log=log))
    taught = dataclasses.replace(material, subject=subject)
    assert "The training of its teachers is not counted." in impact(taught)
    assert "[Distillation](https://arxiv.org/abs/1503.02531)" in related(taught)
    assert "Distillation" not in related(material)


def test_works(material, bare):
    assert "[AdamW]" in related(material)
    assert "[Llama]" in related(bare)
    assert "[Muon]" not in related(material)
    own = stated(bare, related=(Work(title="T|x", url="https://e.org", relevance="why"),))
    assert "| [T\\|x](https://e.org) | why |" in related(own)


def test_citations(bare):
    about = About(name="My 50% model", author="Ada B. Example", publisher="P", year=2026, repo="org/m")
    text = citation(dataclasses.replace(bare, about=about))
    assert "@misc{example2026_my_50_model," in text
    assert "title        = {My 50\\% model}," in text
    assert "howpublished = {\\url{https://huggingface.co/org/m}}," in text
    assert "author" not in citation(bare)
    assert text.count("{") == text.count("}")


def test_checksums_are_those_of_the_files(bare):
    lines = re.findall(r"^([0-9a-f]{64})  (\S+)$", checksums(bare), re.MULTILINE)
    assert len(lines) == 5
    for digest, name in lines:
        assert hashlib.sha256((bare.subject.folder / name).read_bytes()).hexdigest() == digest


def test_every_source_is_named(material, bare):
    names = re.findall(r"^\| `([^`]+)` \|", provenance(material), re.MULTILINE)
    kinds = ["bench", "compare", "contamination", "evaluate", "generate", "memorization", "quantization"]
    assert names == ["recipe.toml", "log.jsonl", *(f"{kind}.json" for kind in kinds)]
    assert "|" not in provenance(bare)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a{b", r"a\textbraceleft{}b"),
        (r"a\b", r"a\textbackslash{}b"),
        ("~100% & #1_$", r"\textasciitilde{}100\% \& \#1\_\$"),
        ("two\nlines", "two lines"),
        ("x^2", r"x\textasciicircum{}2"),
    ],
)
def test_tex_reads_a_name_as_it_is_written(bare, name, title):
    assert f"  title        = {{{title}}},\n" in citation(stated(bare, name=name))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=0x3000, exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_name_is_one_whole_entry(bare, text):
    """BibTeX ends an entry where its braces are even, and a key at whatever is no letter, digit or underscore."""
    entry = citation(stated(bare, name=text, author=text, publisher=text, year=2026))
    body = entry.partition("\n")[2].rpartition("\n")[0]
    depth, ends = 0, []
    for place, letter in enumerate(body):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        ends += [place] * (depth == 0 and letter == "}")
    assert ends == [len(body) - 1]
    assert re.match(r"@misc\{\w*,\n", body)


def test_a_name_that_begins_like_a_command_is_none(bare):
    assert "author       = {\\textbackslash{}url\\textbraceleft{}x\\textbraceright{}}," in citation(
        stated(bare, author="\\url{x}")
    )


def test_addresses_of_works_split_no_cell(bare):
    text = related(stated(bare, related=(Work(title="A [b]", url="https://e.org/x y|(z)", relevance="c | d\n# e"),)))
    rendered = MarkdownIt().enable("table").render(text)
    assert '<td><a href="https://e.org/x%20y%7C%28z%29">A [b]</a></td>\n<td>c | d # e</td>' in rendered
    assert {line.count("<td") for line in rendered.split("</tr>") if "<td" in line} == {2}


def test_large_amounts_have_no_exponent(material, put):
    write_file(put() / "emissions.csv", "duration,energy_consumed,emissions\n7200000,123456.7,23456.78\n")
    text = impact(dataclasses.replace(material, results=read_results(put())))
    assert "| Time | 2000.00 h |" in text
    assert "| Energy | 123,457 kWh |" in text
    assert "| CO2 equivalent | 23,457 kg |" in text


def test_where_and_whose_the_devices_were(material):
    power = Power(region="eu | north", provider="*Mine*", watts=10.0, source="a meter")
    text = impact(stated(material, energy=power))
    assert "| Region | eu \\| north |" in text
    assert "| Provider | \\*Mine\\* |" in text
    assert "2 x 10 W (a meter)" in text


def test_any_name_of_a_file_of_results_is_one_cell(bare, put):
    folder = put(**{"evaluate-a|b`c": {"model": "m"}})
    text = provenance(dataclasses.replace(bare, results=read_results(folder)))
    rendered = MarkdownIt().enable("table").render(text)
    assert "<code>evaluate-a|b`c.json</code>" in rendered
    assert rendered.count("<td") == 3
    digest = hashlib.sha256((folder / "evaluate-a|b`c.json").read_bytes()).hexdigest()
    assert digest in text
