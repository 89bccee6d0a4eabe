"""stentor finetune: a model learns a text through a low-rank adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.cli.output import ForceFlag, JsonFlag, ModelArgument, answer, columns, duration, talk
from stentor.cli.prepare import watch
from stentor.cli.progress import Meter, meter
from stentor.finetune.settings import QUANTIZATIONS, FinetuneSettings

if TYPE_CHECKING:
    from stentor.finetune.run import BeforeAndAfter, FinetuneReport
    from stentor.finetune.training import StepRecord

_DEFAULT = FinetuneSettings()


def finetune(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(help="The text to learn: a file, folder, glob or any other source.")],
    output: Annotated[Path, typer.Argument(help="The folder to make: adapter/ for peft, merged/ for transformers.")],
    keep: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Other text, to measure what is forgotten of it.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Of the adapter's matrices.")] = _DEFAULT.rank,
    alpha: Annotated[
        float, typer.Option(help="Their product counts alpha / rank times.", show_default="twice the rank")
    ] = _DEFAULT.alpha,
    epochs: Annotated[float, typer.Option(help="How often the text is read; may be a part of once.")] = _DEFAULT.epochs,
    lr: Annotated[float, typer.Option(help="AdamW's peak learning rate.")] = _DEFAULT.lr,
    batch: Annotated[int, typer.Option(help="Windows of the context length per update.")] = _DEFAULT.batch,
    validation: Annotated[
        str, typer.Option(help="What to hold out of the text: take:N (documents), hash:FRACTION, or file:SPEC.")
    ] = _DEFAULT.validation,
    seed: Annotated[int, typer.Option(help="The same seed gives the same adapter on a CPU.")] = _DEFAULT.seed,
    quantize: Annotated[
        str | None,
        typer.Option(help=f"QLoRA: round the frozen weights to {' or '.join(QUANTIZATIONS)} meanwhile; saves memory."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where: auto (a GPU if there is one), cpu, cuda, mps.")] = "auto",
    force: ForceFlag = False,
    json_output: JsonFlag = False,
) -> None:
    """Train a low-rank adapter of MODEL on TEXT; keep it, and the model with it merged in, once both are proven.

    Example: stentor finetune stentor-12m notes/ runs/notes --keep held-out.jsonl
    """
    settings = FinetuneSettings(
        rank=rank, alpha=alpha, epochs=epochs, lr=lr, batch=batch, validation=validation, seed=seed, quantize=quantize
    )
    from stentor.finetune.run import finetune as finetune_model

    with meter("fine-tuning") as shown:
        report = finetune_model(
            model,
            text,
            output,
            settings,
            keep=keep,
            device=device,
            replace=force,
            watch=watch,
            on_step=lambda record: _show(shown, record),
            on_measure=lambda done, whole: shown.show(f"measuring: {done / whole:.0%}", share=done / whole),
        )
    talk(
        f"trained {report.num_trained:,} values for {report.num_steps:,} steps on {report.num_tokens:,} tokens "
        f"in {duration(report.seconds)} on {report.device}"
    )
    answer(_described(report), report.to_dict(), as_json=json_output)


def _show(shown: Meter, record: StepRecord) -> None:
    shown.show(
        f"step {record.step:,}/{record.num_steps:,}  loss {record.loss_nats:.3f} nats/token  lr {record.lr:.2e}  "
        f"{record.tokens_per_second:,.0f} tokens/s",
        share=record.step / record.num_steps,
    )


def _described(report: FinetuneReport) -> str:
    rows = [("bits per byte", ("before", "after", "change")), ("held out of the text", _cells(report.held_out))]
    if report.kept is not None:
        rows.append(("the text to keep", _cells(report.kept)))
    folder = Path(report.path)
    return "\n".join(
        [
            columns(rows),
            f"{folder / 'adapter'}  opens in peft, beside the model",
            f"{folder / 'merged'}  opens in transformers, and in every command here",
        ]
    )


def _cells(measured: BeforeAndAfter) -> tuple[str, str, str]:
    before, after = measured.before.bits_per_byte, measured.after.bits_per_byte
    return f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"
