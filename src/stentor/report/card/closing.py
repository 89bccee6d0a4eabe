"""The last sections: energy, related work, citation, checksums, and from which files the numbers are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stentor.artifacts import sha256_of_file
from stentor.report.card.about import Power
from stentor.report.card.energy import Energy, energy_of
from stentor.report.card.markdown import amount_shown, code, facts, fenced, link, paragraphs, plain, table, time_shown
from stentor.report.card.subject import Material
from stentor.report.runs import RECIPE_NAME
from stentor.train.log import LOG_NAME
from stentor.version import __version__

_WORKS = (
    ("Model Cards", "https://arxiv.org/abs/1810.03993", "Mitchell et al. 2018; what a card is for"),
    ("RoFormer", "https://arxiv.org/abs/2104.09864", "Su et al. 2021; rotary positions"),
    ("GLU Variants", "https://arxiv.org/abs/2002.05202", "Shazeer 2020; SwiGLU"),
    ("TinyStories", "https://arxiv.org/abs/2305.07759", "Eldan and Li 2023; how small a model can be and still tell"),
    ("Pythia", "https://arxiv.org/abs/2304.01373", "Biderman et al. 2023; small models with their courses"),
    ("Chinchilla", "https://arxiv.org/abs/2203.15556", "Hoffmann et al. 2022; tokens for a number of parameters"),
    ("Speculative decoding", "https://arxiv.org/abs/2211.17192", "Leviathan et al. 2023; what a small model is for"),
)
_BY_SETTING = {
    ("train.optimizer", "muon"): (
        "Muon",
        "https://kellerjordan.github.io/posts/muon/",
        "Jordan et al. 2024; the optimizer",
    ),
    ("train.optimizer", "adamw"): (
        "AdamW",
        "https://arxiv.org/abs/1711.05101",
        "Loshchilov and Hutter 2017; the optimizer",
    ),
    ("model.carrier", "qwen3"): (
        "Qwen3",
        "https://arxiv.org/abs/2505.09388",
        "Qwen team 2025; the class of the network",
    ),
    ("model.carrier", "llama"): (
        "Llama",
        "https://arxiv.org/abs/2302.13971",
        "Touvron et al. 2023; the class of the network",
    ),
}
_TEX = {
    **{letter: f"\\{letter}" for letter in "%#&_$"},
    "{": "\\textbraceleft{}",
    "}": "\\textbraceright{}",
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}
_DISTILLATION = ("Distillation", "https://arxiv.org/abs/1503.02531", "Hinton et al. 2015; learning from teachers")


_NOT_KNOWN = """\
Not measured. `codecarbon monitor --offline --country-iso-code CODE --no-api -- stentor train RECIPE` measures a
training; its `emissions.csv` belongs into the folder of results. `[energy]` in the file given as `--about` allows an
estimate: `watts` of the device, and where that number is from."""


def impact(material: Material) -> str:
    """Return what the training took, and how that is known."""
    energy = energy_of(material.subject.run, material.results, material.about.energy)
    if energy is None:
        return _NOT_KNOWN
    start = material.subject.run.start if material.subject.run else {}
    taught = "The training of its teachers is not counted." if start.get("num_teacher_parameters") else ""
    return paragraphs(facts(_impact_rows(energy, material.about.energy, start)), energy.how, taught)


def _impact_rows(energy: Energy, power: Power, start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    estimated = "" if energy.is_measured else ", estimated"
    yield "Hardware", plain(str(start.get("device_name", "")))
    yield "Processes", str(start.get("num_processes", ""))
    yield "Time", time_shown(energy.hours * 3600)
    yield f"Energy{estimated}", f"{amount_shown(energy.kwh)} kWh"
    if energy.kg_co2e is None:
        yield f"CO2 equivalent{estimated}", "not known: `kg_co2e_per_kwh` of the grid was not given"
    else:
        yield f"CO2 equivalent{estimated}", f"{amount_shown(energy.kg_co2e)} kg"
        if estimated:
            yield "Carbon of the grid", f"{power.kg_co2e_per_kwh:g} kg/kWh ({plain(power.source)})"
    yield "Region", plain(power.region)
    yield "Provider", plain(power.provider)


def related(material: Material) -> str:
    """Return works that the model builds on, or stands beside."""
    run = material.subject.run
    settings = run.settings if run else {"model.carrier": material.subject.config.carrier}
    used = [work for (key, value), work in _BY_SETTING.items() if settings.get(key) == value]
    taught = [_DISTILLATION] if run and run.start.get("num_teacher_parameters") else []
    own = [(work.title, work.url, work.relevance) for work in material.about.related]
    rows = [[link(title, url), plain(why)] for title, url, why in (*own, *used, *taught, *_WORKS)]
    return table(("work", "why"), rows, numbers=())


def citation(material: Material) -> str:
    """Return a BibTeX entry of what is known."""
    about, config = material.about, material.subject.config
    who = re.sub(r"\W+", "", (about.author.split() or [""])[-1].lower())
    key = re.sub(r"\W+", "_", f"{who}{about.year or ''}{'_' if who or about.year else ''}{material.name}".lower())
    where = f"https://huggingface.co/{about.repo}" if about.repo else ""
    entries = [
        ("title", material.name),
        ("author", about.author),
        ("year", str(about.year or "")),
        ("publisher", about.publisher),
        ("howpublished", f"\\url{{{where}}}" if where else ""),
        ("note", f"{config.num_parameters / 1e6:.1f}M parameter {config.carrier} base model, made with Stentor"),
    ]
    lines = [
        f"  {name:<12} = {{{value if name == 'howpublished' else _bibtex(value)}}}," for name, value in entries if value
    ]
    return fenced("\n".join([f"@misc{{{key},", *lines, "}"]), "bibtex")


def _bibtex(text: str) -> str:
    """Return a text as TeX reads it; BibTeX counts braces even where TeX would take them for letters."""
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split()))


def checksums(material: Material) -> str:
    """Return the SHA-256 of each file, as `sha256sum --check` reads them."""
    lines = "\n".join(f"{file.sha256}  {file.name}" for file in material.subject.files)
    return paragraphs("`sha256sum --check`, in the folder, of these lines:", fenced(lines, "text"))


def provenance(material: Material) -> str:
    """Return the files that the numbers are from."""
    rows = [[code(name), what, f"`{digest}`"] for name, what, digest in _sources(material)]
    words = (
        f"Written by `stentor card` of Stentor {__version__}. Every number above is from one of these files or from "
        "the model's own, or is computed from them; what no file says is said to be not measured, or left out."
    )
    return paragraphs(words, table(("file", "of", "SHA-256"), rows, numbers=()) if rows else "")


def _sources(material: Material) -> Iterator[tuple[str, str, str]]:
    results, run = material.results, material.subject.run
    if run is not None:
        yield RECIPE_NAME, "the run", sha256_of_file(run.path / RECIPE_NAME)
        yield LOG_NAME, "the run", sha256_of_file(run.path / LOG_NAME)
    for found in results.found:
        yield found.path.name, "the results", sha256_of_file(found.path)
    if results.emissions_path:
        yield results.emissions_path.name, "the results", sha256_of_file(results.emissions_path)
