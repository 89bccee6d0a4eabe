"""The card itself: metadata, sections in their order, pictures beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.card import closing, evaluation, identity, origins, running, speed, uses
from stentor.report.card.about import ABOUT_NAME, About, read_about
from stentor.report.card.markdown import paragraphs, plain
from stentor.report.card.metadata import card_data
from stentor.report.card.results import RESULTS_NAME, Results, read_results
from stentor.report.card.subject import CARD_NAME, Material, Subject, open_subject
from stentor.report.curves import plot_curves
from stentor.report.dynamics import plot_dynamics

SECTIONS: Sequence[tuple[str, Callable[[Material], str]]] = (
    ("Architecture", identity.architecture),
    ("Tokenizer", identity.tokenizer),
    ("Training data", origins.data),
    ("Training", origins.training),
    ("Evaluation", evaluation.evaluation),
    ("Comparison", evaluation.comparison),
    ("Memorisation and contamination", evaluation.seen_before),
    ("Samples", speed.samples),
    ("Smaller forms", speed.quantization),
    ("Speed", speed.engines),
    ("How to run it", running.running),
    ("Uses", uses.uses),
    ("Out of scope", uses.out_of_scope),
    ("Ethics and biases", uses.ethics),
    ("Limits", identity.known_limits),
    ("Environmental impact", closing.impact),
    ("Related work", closing.related),
    ("Citation", closing.citation),
    ("Checksums", closing.checksums),
    ("Where the numbers are from", closing.provenance),
)
"""Titles and what makes each; a section that has nothing to say is left out."""


@dataclass(frozen=True, slots=True)
class WrittenCard:
    """A card on disk.

    Attributes:
        path: of the README.md.
        pictures: beside it.
        material: that it was made of.
        left_out: titles of sections that nothing was known for.
    """

    path: Path
    pictures: tuple[Path, ...]
    material: Material
    left_out: tuple[str, ...]


def write_card(
    folder: Path,
    *,
    run_dir: Path | None = None,
    results_dir: Path | None = None,
    about_path: Path | None = None,
    replace: bool = False,
) -> WrittenCard:
    """Write the README.md of a model, and the pictures that it shows, into the model's folder.

    Equal files give an equal card, to the byte.

    Args:
        folder: a model folder, or a run folder, which stands for its best checkpoint.
        run_dir: the run that made a model folder.
        results_dir: what other commands measured; by default `results/` of the run or of the folder, if there is one.
        about_path: what its maker says; by default `card.toml` of the run or of the folder, if there is one.
        replace: a README.md that is there is replaced.

    Raises:
        UserError: there is a card already, or a file is not what it must be.
        MissingDependencyError: huggingface_hub or matplotlib is not installed.
    """
    path = folder / CARD_NAME
    if path.exists() and not replace:
        raise UserError(f"{path} already exists", fix="pass --force to replace it")
    subject = open_subject(folder, run_dir=run_dir)
    material = Material(subject, _about(subject, about_path), _results(subject, results_dir))
    text, left_out = render_card(material)
    pictures = _pictures(subject)
    for name, picture in pictures.items():
        write_file(folder / name, picture)
    write_file(path, text)
    return WrittenCard(path, tuple(folder / name for name in pictures), material, left_out)


def render_card(material: Material) -> tuple[str, tuple[str, ...]]:
    """Return the text of a card, and the titles of sections that it has not."""
    data = card_data(material)
    bodies = [(title, make(material)) for title, make in SECTIONS]
    sections = [f"## {title}\n\n{body}" for title, body in bodies if body]
    body = paragraphs(f"# {plain(material.name)}", identity.summary(material), *sections)
    return f"---\n{data.to_yaml()}\n---\n\n{body}\n", tuple(title for title, body in bodies if not body)


def _about(subject: Subject, path: Path | None) -> About:
    found = path or _beside(subject, ABOUT_NAME)
    return read_about(found) if found else About()


def _results(subject: Subject, path: Path | None) -> Results:
    found = path or _beside(subject, RESULTS_NAME)
    results = read_results(found) if found else Results()
    for one in results.found:
        for name, own in (
            ("num_parameters", subject.config.num_parameters),
            ("vocab_size", subject.tokenizer.vocab_size),
        ):
            if one.value.get(name, own) != own:
                raise UserError(
                    f"{one.path} is of another model: its {name} is {one.value[name]}, this one's is {own}",
                    fix="measure this model, or name another folder of results",
                )
    return results


def _beside(subject: Subject, name: str) -> Path | None:
    """Return what stands under a name in the run's folder, or in the model's."""
    folders = [*([subject.run.path] if subject.run else []), subject.folder]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def _pictures(subject: Subject) -> dict[str, bytes]:
    if subject.run is None:
        return {}
    log = subject.run.log
    return {
        origins.CURVES_NAME: plot_curves(log, file_format="png"),
        origins.DYNAMICS_NAME: plot_dynamics(log, file_format="png"),
    }
