"""stentor evaluate: a model, a text and tasks become numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stentor.cli.engine_options import CacheDtypeOption, DeviceOption, DtypeOption, ThreadsOption, load_model
from stentor.cli.output import JsonFlag, ModelArgument, answer, round_trip, table
from stentor.cli.progress import meter, show_share
from stentor.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from stentor.evaluate.parts import Parts
    from stentor.evaluate.tasks import Settings, Task
    from stentor.runtime.engine import LanguageModel

PARTS = ("document", "position")
TaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="KIND=DATA",
        help="blimp=FOLDER, choice=FILE, lambada=FILE or lm-eval=NAME[,NAME]; may be repeated.",
    ),
]
StartOption = Annotated[
    str,
    typer.Option(help="Before each text of a task: eos, bos, or none (an EOS only where there is nothing)."),
]
SpaceOption = Annotated[
    bool, typer.Option("--space/--no-space", help="Put a space before each sentence of BLiMP, as lm-eval does.")
]


def evaluate(
    model: ModelArgument,
    text: Annotated[str | None, typer.Argument(help="The text: a file, folder, glob or any other source.")] = None,
    task: TaskOption = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Also by document, or by position in the context; may be repeated.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Let windows of the context overlap, and begin so many tokens apart.")
    ] = None,
    start: StartOption = "eos",
    space: SpaceOption = False,
    baselines: Annotated[
        bool, typer.Option(help="Also say what gzip, xz and a unigram model need for the same text.")
    ] = True,
    dtype: DtypeOption = None,
    cache_dtype: CacheDtypeOption = "float32",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_output: JsonFlag = False,
) -> None:
    """Measure a model's loss, perplexity and bits per byte on raw text, and how well it does tasks.

    Example: stentor evaluate runs/tiny data/tiny/corpus/validation.jsonl.zst --task blimp=data/blimp
    """
    from stentor.evaluate.starting import Start
    from stentor.evaluate.tasks import Settings, parse_task
    from stentor.runtime.open import exact_dtype

    if text is None and not task:
        raise UsageError("there is nothing to evaluate on", fix="name a text, or a task: --task blimp=FOLDER")
    for part in by or ():
        if part not in PARTS:
            raise UsageError(f"--by has no {part!r}", fix=nearest_name(part, PARTS))
    tasks, settings = [parse_task(one) for one in task or ()], Settings(Start(start), space)
    dtype = dtype or exact_dtype(model)
    language_model = load_model(model, dtype=dtype, cache_dtype=cache_dtype, num_threads=threads, device=device)
    value: dict[str, Any] = {"model": str(language_model.origin), "text": text, "dtype": _named(dtype, model)}
    value["vocab_size"] = language_model.tokenizer.vocab_size
    sections = [table({"model": language_model.origin})]
    if text is not None:
        sections += _on_text(language_model, text, by or (), stride, baselines, value)
    if tasks:
        sections += _on_tasks(language_model, tasks, settings, value)
    answer("\n".join(sections), value, as_json=json_output)


def _named(dtype: str | None, model: str) -> str:
    """Return the dtype that a model computes in, as JSON holds it."""
    return dtype if dtype and not model.startswith("transformers:") else "as its file"


def _on_text(
    model: LanguageModel, text: str, by: list[str] | tuple[str, ...], stride: int | None, baselines: bool,
    value: dict[str, Any],
) -> list[str]:  # fmt: skip
    """Measure a model on a text: fills in the JSON and returns the sections for people."""
    from stentor.cli.evaluate_tables import document_table, position_table
    from stentor.evaluate.baselines import baselines as measure_baselines
    from stentor.evaluate.parts import evaluate_parts
    from stentor.text.sources import open_source, read_texts

    names: list[str] = []

    def documents() -> Iterator[str]:
        for document in open_source(text):
            names.append(document.id)
            yield document.text

    with meter("evaluating") as shown:
        parts = evaluate_parts(
            model, documents(), stride=stride, on_progress=lambda done, whole: show_share(shown, done, whole)
        )
    value.update(parts.whole.to_dict())
    rows = _whole_rows(parts, model, stride)
    if baselines:
        compared = measure_baselines(read_texts(text), model.tokenizer)
        value.update(compared.to_dict())
        rows["xz -9e"] = f"{compared.xz_bits_per_byte:.4f} bits per byte on the same text alone"
        rows["gzip -9"] = f"{compared.gzip_bits_per_byte:.4f}"
        rows["unigram"] = f"{compared.unigram_bits_per_byte:.4f} (each token by its frequency in this very text)"
    sections = [table(rows)]
    if stride is not None:
        value["stride"] = stride
    if "document" in by:
        value["documents"] = [
            {"document": name, **part.to_dict()} for name, part in zip(names, parts.documents, strict=True)
        ]
        sections += ["", document_table(parts.documents, names)]
    if "position" in by:
        value["positions"] = [{"positions": part.name, **part.to_dict()} for part in parts.positions]
        sections += ["", position_table(parts.positions)]
    return sections


def _whole_rows(parts: Parts, model: LanguageModel, stride: int | None) -> dict[str, str]:
    result, vocab_size = parts.whole, model.tokenizer.vocab_size
    context_length = model.network.config.max_position_embeddings
    overlap = f"{stride:,} apart" if stride else "which do not overlap"
    return {
        "text": f"{result.num_bytes:,} bytes, {result.num_tokens:,} tokens "
        f"({result.num_bytes / result.num_tokens:.3f} bytes per token of a {vocab_size:,}-token vocabulary)",
        "read in": f"windows of {context_length:,} tokens, {overlap}",
        "round trip": round_trip(result.num_lossy_documents, result.num_lost_bytes),
        "loss": f"{result.loss_nats:.4f} nats/token",
        "perplexity": f"{result.perplexity:.2f} (only comparable with the same tokenizer)",
        "bits per byte": f"{result.bits_per_byte:.4f} (of the text as it was given)",
    }


def _on_tasks(model: LanguageModel, tasks: list[Task], settings: Settings, value: dict[str, Any]) -> list[str]:
    """Let a model do tasks: fills in the JSON and returns the sections for people."""
    from stentor.cli.evaluate_tables import task_table
    from stentor.evaluate.tasks import run_task

    value["tasks"], sections = [], []
    for task in tasks:
        with meter(task.kind) as shown:

            def show(done: int, whole: int, shown: Any = shown) -> None:
                show_share(shown, done, whole)

            found = run_task(model, task, settings, on_progress=show)
        value["tasks"].append(found)
        sections += ["", task_table(found)]
    return sections
