"""`stentor export`: a model becomes files that other programs open."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    INT8 = "int8"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_1 = "q5_1"
    Q5_K_M = "q5_k_m"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"


_DTYPES = {
    Format.HUGGINGFACE: (Dtype.FLOAT32, Dtype.FLOAT16, Dtype.BFLOAT16),
    Format.GGUF: (
        *(Dtype.FLOAT16, Dtype.Q8_0, Dtype.Q6_K, Dtype.Q5_1, Dtype.Q5_K_M, Dtype.Q5_0, Dtype.Q4_1, Dtype.Q4_K_M),
        *(Dtype.Q4_0, Dtype.INT8, Dtype.FLOAT32),
    ),
    Format.ONNX: (Dtype.FLOAT32,),
    Format.REFERENCE: (Dtype.FLOAT32,),
}
_PROOFS = {
    Format.HUGGINGFACE: "opening it in transformers",
    Format.GGUF: "opening it in llama.cpp",
    Format.ONNX: "opening it in onnxruntime",
    Format.REFERENCE: "reading it back",
}


OutputArgument = Annotated[
    Path | None, typer.Argument(help="The folder to make, or the .gguf file; none to --compare all forms.")
]
FormatOption = Annotated[
    Format | None, typer.Option(help="The format; reference: the `weight_master` layout of Stentor2-12M-Preview.")
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(
        help="huggingface: float32 (default), float16, bfloat16; gguf: float16 (default), q8_0, q6_k, q5_1, "
        "q5_k_m, q5_0, q4_1, q4_k_m, q4_0, int8 (as trained by the INT8 recipe), float32; "
        "onnx (with a dynamic INT8 form beside it), reference: float32."
    ),
]
UnverifiedFlag = Annotated[
    bool, typer.Option("--unverified", help="Keep the export unproven if no consumer is installed to prove it.")
]
CompareOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Without OUTPUT: print what each form of MODEL costs on a part of TEXT. With OUTPUT, a "
        "gguf of a TokenMonster model: the text to measure the closest tokenizer on, else builtin:docs.",
    ),
]
CalibrateOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="q5_0 and q4_0: round for a part of TEXT, each error compensated; no text to measure on.",
    ),
]


def export(
    model: ModelArgument,
    output: OutputArgument = None,
    *,
    to: FormatOption = None,
    dtype: DtypeOption = None,
    force: ForceFlag = False,
    unverified: UnverifiedFlag = False,
    compare: CompareOption = None,
    calibrate: CalibrateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Write MODEL as files that transformers, llama.cpp, onnxruntime or browsers open, each kept once it is proven.

    Example: stentor export runs/tiny model.gguf --to gguf --dtype q8_0

    What each dtype costs: stentor export runs/tiny --compare validation.jsonl
    """
    if output is None:
        _compare(model, compare, calibrate, has_more=to is not None or dtype is not None, json_output=json_output)
        return
    to, chosen = _chosen(to, dtype, has_compare=compare is not None, has_calibrate=calibrate is not None)
    talk(f"writing {output} and {_PROOFS[to]}")
    options = {"dtype": chosen.value, "replace": force, "unverified": unverified}
    report = _exported(model, output, to, compare=compare, calibrate=calibrate, **options)
    answer(_described(report), report.to_dict(), as_json=json_output)


def _chosen(to: Format | None, dtype: Dtype | None, *, has_compare: bool, has_calibrate: bool) -> tuple[Format, Dtype]:
    """Return what to write, or refuse options that do not go together."""
    if to is None:
        raise UsageError("the format is missing", fix=f"add --to {', --to '.join(known.value for known in Format)}")
    chosen = dtype or _DTYPES[to][0]
    if chosen not in _DTYPES[to]:
        raise UsageError(
            f"--to {to.value} does not store {chosen.value}",
            fix=f"choose --dtype from {', '.join(known.value for known in _DTYPES[to])}",
        )
    if has_compare and to is not Format.GGUF:
        raise UsageError("--compare is for --to gguf", fix="leave it out: a folder carries the tokenizer exactly")
    if has_calibrate and chosen not in (Dtype.Q5_0, Dtype.Q4_0):
        raise UsageError("--calibrate is for --to gguf with --dtype q5_0 or q4_0", fix="leave it out")
    return to, chosen


def _exported(
    model: str, output: Path, to: Format, *, compare: str | None, calibrate: str | None, **options: Any
) -> ExportReport:
    """Call the export of a format with those of the options that it has."""
    if to is Format.HUGGINGFACE:
        from stentor.export.huggingface import export_huggingface

        return export_huggingface(model, output, **options)
    if to is Format.GGUF:
        from stentor.export.gguf import export_gguf

        return export_gguf(model, output, **options, compare=compare, calibrate=calibrate)
    if to is Format.ONNX:
        from stentor.export.onnx import export_onnx

        return export_onnx(model, output, replace=options["replace"])
    from stentor.export.reference import export_reference

    return export_reference(model, output, replace=options["replace"])


def _compare(model: str, text: str | None, calibrate: str | None, *, has_more: bool, json_output: bool) -> None:
    """Print what each form costs."""
    if text is None or has_more:
        raise UsageError(
            "there is no OUTPUT to write",
            fix="name it, with --to; or pass --compare TEXT, without --to and --dtype, to measure every form",
        )
    from stentor.bench.quantization import compare_forms
    from stentor.cli.quantization_table import quantization_table
    from stentor.doctor import machine_facts

    measured, machine = compare_forms(model, text, calibrate=calibrate, say=talk), machine_facts()
    value = {"model": model, "machine": machine, **measured.to_dict()}
    answer(quantization_table(measured, machine), value, as_json=json_output)


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
