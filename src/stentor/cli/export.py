"""`stentor export`: a model becomes files that other programs open."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.cli.output import ForceFlag, JsonFlag, ModelArgument, answer, size, talk
from stentor.errors import UsageError

if TYPE_CHECKING:
    from stentor.export.parity import ExportReport, MappedTokenizer


class Format(StrEnum):
    """What to export to."""

    HUGGINGFACE = "huggingface"
    GGUF = "gguf"
    ONNX = "onnx"
    REFERENCE = "reference"


class Dtype(StrEnum):
    """How the weights are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    Q8_0 = "q8_0"
    Q5_0 = "q5_0"
    Q4_0 = "q4_0"


_DTYPES = {
    Format.HUGGINGFACE: (Dtype.FLOAT32, Dtype.FLOAT16, Dtype.BFLOAT16),
    Format.GGUF: (Dtype.FLOAT16, Dtype.Q8_0, Dtype.Q5_0, Dtype.Q4_0, Dtype.FLOAT32),
    Format.ONNX: (Dtype.FLOAT32,),
    Format.REFERENCE: (Dtype.FLOAT32,),
}
_PROOFS = {
    Format.HUGGINGFACE: "opening it in transformers",
    Format.GGUF: "opening it in llama.cpp",
    Format.ONNX: "opening it in onnxruntime",
    Format.REFERENCE: "reading it back",
}


def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Argument(help="The folder to make, or the .gguf file.")],
    *,
    to: Annotated[
        Format, typer.Option(help="The format; reference: the `weight_master` layout of Stentor2-12M-Preview.")
    ],
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            help="huggingface: float32 (default), float16, bfloat16; gguf: float16 (default), q8_0, q5_0, q4_0, "
            "float32; onnx (with an INT8 form beside it), reference: float32."
        ),
    ] = None,
    force: ForceFlag = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Keep the export unproven if no consumer is installed to prove it.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="gguf of a TokenMonster model: the text to measure the closest tokenizer on.",
            show_default="builtin:docs",
        ),
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Write MODEL as files that transformers, llama.cpp, onnxruntime or browsers open, each kept once it is proven.

    Example: stentor export runs/tiny model.gguf --to gguf --dtype q8_0
    """
    chosen = dtype or _DTYPES[to][0]
    if chosen not in _DTYPES[to]:
        raise UsageError(
            f"--to {to.value} does not store {chosen.value}",
            fix=f"choose --dtype from {', '.join(known.value for known in _DTYPES[to])}",
        )
    if compare is not None and to is not Format.GGUF:
        raise UsageError("--compare is for --to gguf", fix="leave it out: a folder carries the tokenizer exactly")
    talk(f"writing {output} and {_PROOFS[to]}")
    report = _exported(model, output, to, dtype=chosen.value, replace=force, unverified=unverified, compare=compare)
    answer(_described(report), report.to_dict(), as_json=json_output)


def _exported(
    model: str, output: Path, to: Format, *, dtype: str, replace: bool, unverified: bool, compare: str | None
) -> ExportReport:
    """Call the export of a format with those of the options that it has."""
    if to is Format.HUGGINGFACE:
        from stentor.export.huggingface import export_huggingface

        return export_huggingface(model, output, dtype=dtype, replace=replace, unverified=unverified)
    if to is Format.GGUF:
        from stentor.export.gguf import export_gguf

        return export_gguf(model, output, dtype=dtype, replace=replace, unverified=unverified, compare=compare)
    if to is Format.ONNX:
        from stentor.export.onnx import export_onnx

        return export_onnx(model, output, replace=replace)
    from stentor.export.reference import export_reference

    return export_reference(model, output, replace=replace)


def _described(report: ExportReport) -> str:
    kept = f"{report.path}: {report.format}, {report.dtype}, {size(report.size_bytes)}"
    proof, mapped = report.proof, report.mapped_tokenizer
    cost = [*(_mapping_described(mapped) if mapped else []), *_beside(report)]
    if proof is None:
        return "\n".join([kept, "unverified: no consumer was installed to prove it", *cost])
    bytes_proven = f", bytes of {proof.num_tokens:,} tokens equal" if proof.num_tokens else ""
    what = f"those of the mapping on {proof.num_strings:,}" if mapped else f"equal on {proof.num_strings:,} mixed"
    return "\n".join(
        [
            kept,
            f"proven in {proof.consumer}",
            f"  token ids {what} strings{bytes_proven}",
            f"  same weights, {proof.num_positions} positions: largest logit difference "
            f"{proof.stored.max_logit_difference:.2g}, mean KL {proof.stored.mean_kl_nats:.2g} nats",
            f"  cost of {report.dtype} against the original: mean KL {proof.original.mean_kl_nats:.2g} nats, "
            f"largest {proof.original.max_kl_nats:.2g}",
            *cost,
        ]
    )


def _beside(report: ExportReport) -> list[str]:
    """Say what was written beside the form that was proven, and what else is to be known."""
    lines = [
        f"with {variant.path}: {variant.dtype}, {size(variant.size_bytes)}\n"
        f"  cost of {variant.dtype} against the original: mean KL {variant.original.mean_kl_nats:.2g} nats, "
        f"largest {variant.original.max_kl_nats:.2g}"
        for variant in report.variants
    ]
    return [*lines, *([report.remark] if report.remark else [])]


def _mapping_described(mapped: MappedTokenizer) -> list[str]:
    """Say how far a stand-in for the model's tokenizer is from it, and what that costs."""
    lines = [
        f"NOT the model's own token ids: llama.cpp has no TokenMonster, the file carries its {mapped.kind} tokenizer",
        f"  the model on {size(mapped.num_bytes)} of {mapped.sample}, with its own ids: "
        f"{mapped.bits_per_byte:.3f} bits per byte",
    ]
    for what, cut in (("text as it is typed", mapped.raw), ("text prepared by Stentor", mapped.prepared)):
        lines.append(
            f"  {what}: similarity of ids {cut.similarity:.1%}, {cut.equal_strings:.1%} of {mapped.num_strings:,} "
            f"mixed strings equal, {cut.bits_per_byte:.3f} bits per byte"
        )
    return [*lines, "  exact ids: encode and decode with Stentor and pass the ids to llama.cpp"]
