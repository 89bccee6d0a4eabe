"""Sections on what the model was made from: its texts and their licences, and how it was trained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from stentor.report.card.about import DataSource
from stentor.report.card.licenses import license_notes
from stentor.report.card.markdown import bullets, code, facts, fenced, link, paragraphs, plain, table, time_shown
from stentor.report.card.phases import FAST, MOST, SMOOTHED_OVER, Phase, phases
from stentor.report.card.subject import Material
from stentor.report.results import COLUMNS, result_rows
from stentor.report.runs import RECIPE_NAME, ComparedRun

CURVES_NAME, DYNAMICS_NAME = "report/curves.png", "report/dynamics.png"
_MOST_ROWS = 12
_PART_OF_A_MIX = re.compile(r"[^,\s][^,]*")
_OF_SOMEBODY = re.compile(r"~[\w.-]*/")
_HELD_OUT = {"take": "the first {} documents", "hash": "a share of {} of all documents, chosen by their hash"}


def data(material: Material) -> str:
    """Return the texts, their licences, and what those mean for the model."""
    about, run = material.about, material.subject.run
    rows = [_source_row(source) for source in about.data]
    recipe_rows = facts(_recipe_rows(run, is_stated=bool(about.of_role("training")))) if run else ""
    listed = table(("text", "used for", "licence", "documents", "bytes", "note"), rows, numbers=(3, 4)) if rows else ""
    notes = license_notes(about.of_role("training"), about.license)
    if not about.of_role("training"):
        notes = ["**Sources and licences are not stated.** `[[data]]` in the file given as `--about` states them."]
    return paragraphs(listed, recipe_rows, *notes)


def _source_row(source: DataSource) -> list[str]:
    url = source.url or (f"https://huggingface.co/datasets/{source.dataset}" if source.dataset else "")
    return [
        link(source.name, url),
        source.role,
        plain(source.license) or "not known",
        f"{source.num_documents:,}" if source.num_documents else "-",
        f"{source.num_bytes:,}" if source.num_bytes else "-",
        plain(source.note),
    ]


def _recipe_rows(run: ComparedRun, *, is_stated: bool) -> Iterator[tuple[str, str]]:
    """Yield what the recipe says of the text; its source only where the maker states none."""
    settings = run.settings
    source = None if is_stated else settings.get("text.source")
    yield "Read from", code(_without_folders(str(source))) if source else ""
    how, _, much = str(settings.get("text.validation", "")).partition(":")
    yield "Held out", _HELD_OUT.get(how, "a source of its own").format(plain(much)) if much else ""
    shortest, most = settings.get("text.min_characters"), settings.get("text.max_bytes")
    num_epochs, held_out = run.start.get("num_epochs"), run.start.get("held_out_sha256")
    yield "Dropped", f"documents of fewer than {least} characters" if shortest and (least := _counted(shortest)) else ""
    yield "Read at most", f"{limit} bytes of text" if most and (limit := _counted(most)) else ""
    yield "Passes over the text", f"{num_epochs:.2f}" if isinstance(num_epochs, int | float) else ""
    yield "Held-out ids, SHA-256", code(str(held_out)) if held_out else ""


def training(material: Material) -> str:
    """Return how the model was trained, what came of it, and its course."""
    run = material.subject.run
    if run is None:
        return "The run that made this model is not known here. `--run RUN` names it."
    shown = [f"![Held-out and training loss by step]({CURVES_NAME})", "### Results by step", _evaluations(run)]
    course = ["### Training dynamics", _course(run), f"![Course of the training]({DYNAMICS_NAME})"]
    recipe = [
        "### Recipe",
        "As `stentor train` resolved it; paths are shown without their folders.",
        fenced(recipe_text(run), "toml"),
    ]
    return paragraphs(facts(_training_rows(run)), *shown, *course, *recipe)


def _training_rows(run: ComparedRun) -> Iterator[tuple[str, str]]:
    start, settings, numbers = run.start, run.settings, run.to_dict()
    per_token, seen = start.get("flops_per_token"), numbers["tokens_seen"]
    yield "Updates", f"{numbers['step']:,} of {_counted(start.get('num_steps')) or format(numbers['step'], ',')}"
    yield "Tokens", f"{seen:,}"
    yield "Tokens an update", _counted(settings.get("train.global_batch_tokens"))
    yield "Optimizer", plain(str(settings.get("train.optimizer", "")))
    yield "Schedule", plain(str(settings.get("train.schedule", "")))
    yield "Precision", plain(str(start.get("precision", "")))
    yield "Devices", _devices(start)
    yield "PyTorch", plain(str(start.get("torch", "")))
    yield "Seed", str(settings.get("train.seed", ""))
    taught = start.get("num_teacher_parameters")
    yield "Taught by", f"models of {taught:,} parameters in all" if taught else ""
    yield "Time of the updates", time_shown(run.log.seconds) if run.log.seconds else ""
    yield "Tokens a second, median", f"{numbers['tokens_per_second']:,.0f}" if numbers["tokens_per_second"] else ""
    yield "Model FLOP utilisation", f"{numbers['mfu']:.1%} of the devices' dense peak" if numbers["mfu"] else ""
    yield "Operations", f"{per_token * seen:.3g} FLOP, without teachers and evaluations" if per_token else ""
    yield "Begun or gone on with", f"{len(run.log.starts)} times" if len(run.log.starts) > 1 else ""


def _devices(start: dict[str, Any]) -> str:
    name, count = start.get("device_name"), start.get("num_processes", 1)
    if not name:
        return ""
    if name == "cpu":
        return f"CPU, {start.get('num_threads', '?')} threads"
    return f"{count} x {plain(str(name))}"


def _counted(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _evaluations(run: ComparedRun) -> str:
    """Return the table of evaluations: the first, the best, the last, and some between."""
    rows = list(result_rows(run.log))
    if not rows:
        return "Not evaluated during the training."
    every = -(-len(rows) // _MOST_ROWS)
    kept = [
        [f"**{cell}**" if is_best and cell else cell for cell in cells]
        for place, (cells, is_best) in enumerate(rows)
        if is_best or place % every == 0 or place == len(rows) - 1
    ]
    left_out = f"{len(rows) - len(kept)} evaluations between them are left out." if len(kept) < len(rows) else ""
    return paragraphs(table(COLUMNS, kept, numbers=range(5)), left_out)


def _course(run: ComparedRun) -> str:
    found = phases(run.log)
    if not found:
        return "The run is too short to tell phases apart."
    heads = ("phase", "updates", "tokens", "training loss", "held-out loss", "learning rate", "gradient norm")
    words = (
        f"The fast fall ends where the training loss has made {FAST:.0%} of its whole fall, the slow one at "
        f"{MOST:.0%}, the late phase with the best evaluation. Losses in nats per token, at a phase's beginning and "
        f"end; training losses are means over {max(3, len(run.log.train) // SMOOTHED_OVER):,} logged updates. Gradient "
        "norms: median and largest, before clipping."
    )
    return paragraphs(words, table(heads, map(_phase_row, found)), bullets(_seen(run, found)))


def _phase_row(phase: Phase) -> list[str]:
    before, after = ("-" if loss is None else f"{loss:.4f}" for loss in phase.held_out_nats)
    return [
        phase.name,
        f"{phase.first_step:,} to {phase.last_step:,}",
        f"{phase.num_tokens:,}",
        f"{phase.loss_nats[0]:.3f} to {phase.loss_nats[1]:.3f}",
        f"{before} to {after}",
        "-" if phase.lr is None else f"{phase.lr[0]:.2g} to {phase.lr[1]:.2g}",
        "-" if phase.grad_norm is None else f"{phase.grad_norm[0]:.2f}, {phase.grad_norm[1]:.2f}",
    ]


def _seen(run: ComparedRun, found: list[Phase]) -> Iterator[str]:
    """Yield in words what the numbers of a run show."""
    fast, updates = found[0], run.log.train
    yield (
        f"{fast.name.capitalize()}: {fast.last_step / updates[-1]['step']:.1%} of the updates make {FAST:.0%} of the "
        "fall."
    )
    best, last = run.best, run.last
    if best and best["step"] < last["step"]:
        yield (
            f"The best evaluation is at step {best['step']:,}; by the last one the held-out loss had changed by "
            f"{last['loss_nats'] - best['loss_nats']:+.4f} nats."
        )
    elif best:
        yield f"The last evaluation, at step {best['step']:,}, is the best of {len(run.log.evaluations)}."
    norms = [(record["grad_norm"], record["step"]) for record in updates if record.get("grad_norm")]
    if norms:
        yield f"The largest gradient norm, {max(norms)[0]:.2f}, was at step {max(norms)[1]:,}."
    scales = run.log.scales
    if scales and scales[0]["max_logit"] and scales[-1]["max_logit"]:
        yield (
            f"The largest logit was {scales[0]['max_logit']:.1f} at step {scales[0]['step']:,} and "
            f"{scales[-1]['max_logit']:.1f} at step {scales[-1]['step']:,}."
        )


def recipe_text(run: ComparedRun) -> str:
    """Return a run's recipe, without the folders of the machine that it was run on."""
    text = (run.path / RECIPE_NAME).read_text(encoding="utf-8")
    paths = [value for key, value in run.settings.items() if key not in ("name", "description")]
    for value in paths:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and (short := _without_folders(one)) != one:
                text = text.replace(_quoted(one), _quoted(short))
    return text


def _quoted(text: str) -> str:
    """Write a text as a recipe does."""
    return json.dumps(text, ensure_ascii=False)


def _without_folders(source: str) -> str:
    """Return a source of text, or a path, with the last part alone of each absolute path in it."""
    return _PART_OF_A_MIX.sub(lambda part: _last_part(part[0]), source)


def _last_part(source: str) -> str:
    """Return the last part of an absolute path, with the `file:` before it, and anything else as it is."""
    kind, colon, rest = source.partition(":")
    if kind == "file":
        return f"{kind}{colon}{_last_part(rest)}"
    if Path(source).is_absolute() or _OF_SOMEBODY.match(source):
        return Path(source).name
    path = PureWindowsPath(source)  # the card may be written on another machine than the run
    return path.name if path.is_absolute() else source
