"""stentor compare: what came of runs, or what models do, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stentor.cli.engine_options import DeviceOption, ThreadsOption, load_model
from stentor.cli.evaluate import SpaceOption, StartOption, TaskOption
from stentor.cli.output import JsonFlag, answer, columns, short_names, talk
from stentor.cli.progress import meter, show_share
from stentor.errors import UsageError


def compare(
    compared: Annotated[
        list[str],
        typer.Argument(metavar="RUN... | MODEL...", help="Folders of runs; or, with --text or --task, any models."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Draw runs: into a .svg, .png or .html, or all three into a folder."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Compare models on this text: a file, folder, or source.")] = None,
    task: TaskOption = None,
    start: StartOption = "eos",
    space: SpaceOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_output: JsonFlag = False,
) -> None:
    """Lay runs side by side: losses, bits per byte, speed, and the settings in which they differ; or models.

    Models are measured in float32 on the same text and tasks; `transformers:` before a folder or a Hub id opens any
    causal model, in the numbers of its file.

    Example: stentor compare runs/tiny runs/hot --output comparison
    Example: stentor compare runs/tiny transformers:EleutherAI/pythia-14m --text held-out.jsonl --task blimp=data/blimp
    """
    if text is None and not task:
        _compare_runs([Path(run) for run in compared], output, json_output)
        return
    if output is not None:
        raise UsageError("--output draws runs, not models", fix="leave out --output, or --text and --task")
    _compare_models(compared, text, task or [], (start, space), {"num_threads": threads, "device": device}, json_output)


def _compare_runs(runs: list[Path], output: Path | None, json_output: bool) -> None:
    from stentor.report.comparison import kind_of, result_rows, setting_rows, write_comparison
    from stentor.report.runs import comparability, differing_settings, open_run

    if output is not None:
        kind_of(output)  # a wrong name is refused before the work
    names = short_names([str(run) for run in runs])
    opened = [open_run(name, run) for name, run in zip(names, runs, strict=True)]
    notes, settings = comparability(opened), list(setting_rows(opened))
    if output is not None:
        for path in write_comparison(opened, output):
            talk(f"wrote {path}")
    rows = [("", names), *result_rows(opened)]
    if settings:
        rows += [("", []), ("settings that differ", []), *((f"  {key}", cells) for key, cells in settings)]
    text = "\n".join([columns(rows), *(f"note: {note}" for note in notes)])
    value = {
        "runs": [run.to_dict() for run in opened],
        "settings": differing_settings(opened),
        "notes": notes,
    }
    answer(text, value, as_json=json_output)


def _compare_models(
    models: list[str], text: str | None, tasks: list[str], policy: tuple[str, bool], engine: dict[str, Any],
    json_output: bool,
) -> None:  # fmt: skip
    from stentor.cli.evaluate_tables import model_rows
    from stentor.evaluate.models import measure_model, unequal_terms
    from stentor.evaluate.starting import Start
    from stentor.evaluate.tasks import Settings, parse_task
    from stentor.runtime.open import exact_dtype
    from stentor.text.sources import open_source, read_texts

    parsed, settings = [parse_task(one) for one in tasks], Settings(Start(policy[0]), policy[1])
    if text is not None:
        open_source(text)  # a wrong name is refused before the work
    measured = []
    for name in models:
        loaded = load_model(name, dtype=exact_dtype(name), cache_dtype="float32", **engine)
        with meter(name) as shown:

            def show(done: int, whole: int, shown: Any = shown) -> None:
                show_share(shown, done, whole)

            texts = None if text is None else read_texts(text)
            measured.append(measure_model(loaded, name, texts=texts, tasks=parsed, settings=settings, on_progress=show))
    notes, names = unequal_terms(measured), short_names([name.removeprefix("transformers:") for name in models])
    lines = [columns([("", names), *model_rows(measured)]), *(f"note: {note}" for note in notes)]
    value = {"text": text, "models": [model.to_dict() for model in measured], "notes": notes}
    answer("\n".join(lines), value, as_json=json_output)
