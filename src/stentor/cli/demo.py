"""stentor demo: the whole line on the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stentor.cli.output import JsonFlag, SetOption, answer, size, table, talk
from stentor.cli.prepare import watch
from stentor.cli.progress import TrainingDisplay, meter


def demo(
    out: Annotated[Path, typer.Option(help="The folder that receives everything.")] = Path("demo"),
    overrides: SetOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Train a tiny model from this machine's own documentation, offline, and ship it: a few minutes.

    Example: stentor demo --out demo
    """
    from stentor.demo import run_demo

    with meter("training") as shown:
        result = run_demo(out, watch=watch, observer=TrainingDisplay(shown), say=talk, overrides=tuple(overrides or ()))
    measured, compared = result.evaluation, result.baselines
    samples = "\n\n".join(f"{sample.prompt}{sample.continuation}" for sample in result.samples)
    rows = {
        "bits per byte": f"{measured.bits_per_byte:.4f} on {measured.num_bytes:,} bytes of held-out text",
        "xz -9e": f"{compared.xz_bits_per_byte:.4f} for the same text alone",
        "gzip -9": f"{compared.gzip_bits_per_byte:.4f}",
        "loss": f"{measured.loss_nats:.4f} nats/token, perplexity {measured.perplexity:.1f}",
        **{f"{export.format} file": f"{export.path} ({size(export.size_bytes)})" for export in result.exports},
        "report": result.report,
    }
    answer(f"{samples}\n\n{table(rows)}", result.to_dict(), as_json=json_output)
