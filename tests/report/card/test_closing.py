"""Energy, works, citation, checksums, and the files that all numbers are from."""

from __future__ import annotations

import dataclasses
import hashlib
import re

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
