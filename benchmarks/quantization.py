"""Claim: what each smaller form of a model costs in bits per byte, and what it gives in bytes and tokens per second.

usage: python benchmarks/quantization.py MODEL TEXT CALIBRATION [--tokens N]

CALIBRATION is the text that 4 and 5 bits are rounded for with compensated errors; it must share nothing with TEXT. The
forms are those of `stentor export MODEL --compare TEXT`; beside them stand Q4_0 and Q5_0 with the plain scales of
llama.cpp's own tool, which say what searched scales and compensation gain.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from record import Claim, record

from stentor.artifacts import open_file
from stentor.bench.quantization import Quantizations, Row, compare_forms
from stentor.bench.quantized_forms import FORMS, Form, Opened, Workshop
from stentor.export.gguf_file import write_gguf
from stentor.model.weights import read_weights
from stentor.runtime.cpu import CpuNetwork

TOKENS = 65_536
PLAIN = "gguf {}, plain scales"
LIMITS = {"gguf q8_0": 0.002, "gguf int8": 0.002, "gguf q4_0, calibrated": 0.01}
"""What a form may add to the bits per byte of float32."""


def plain_scales(workshop: Workshop, *, dtype: str, folder: Path) -> Opened:
    """Open a file as llama.cpp's tool rounds: the largest weight of a block sets its scale. It is not timed again."""
    path = folder / f"plain-{dtype}.gguf"
    source = workshop.source
    arrays = {name: tensor.numpy() for name, tensor in source.tensors.items()}
    with open_file(path) as partial_file:
        write_gguf(Path(partial_file.name), source.config, arrays, source.tokenizer, dtype=dtype, name="model")
    read = read_weights(path)
    network = CpuNetwork(read.config, read.arrays, max_threads=workshop.num_threads)
    return Opened(path.stat().st_size, network, lambda: None)


def claims_of(rows: dict[str, Row]) -> list[Claim]:
    """Return what the README shows: cost of each form, bytes and speed of those that are files."""
    first = rows["float32"]
    claims = [
        Claim(
            what=f"{name}: added to float32",
            value=row.added_bits_per_byte,
            unit="bits/byte",
            better="lower",
            target=LIMITS.get(name),
        )
        for name, row in rows.items()
        if row is not first
    ]
    claims += [
        Claim(
            what=f"{name}: size",
            value=row.size_bytes / 1e6,
            unit="MB",
            better="lower",
            peer="float32",
            peer_value=first.size_bytes / 1e6,
        )
        for name, row in rows.items()
        if row.size_bytes < first.size_bytes and not name.endswith("plain scales")
    ]
    for dtype in ("q4_0", "q5_0"):
        plain, ours = rows[PLAIN.format(dtype)], rows.get(f"gguf {dtype}, calibrated")
        if ours:
            claims.append(
                Claim(
                    what=f"{dtype}: compensated errors, share of the plain cost that is left",
                    value=ours.added_bits_per_byte / plain.added_bits_per_byte,
                    unit="share",
                    better="lower",
                    target=0.75,
                    peer="searched scales alone",
                    peer_value=rows[f"gguf {dtype}"].added_bits_per_byte / plain.added_bits_per_byte,
                )
            )
    return claims


def measured(model: str, text: str, calibration: str, num_tokens: int) -> Quantizations:
    """Measure all forms."""
    with tempfile.TemporaryDirectory() as folder:
        plain = [
            Form(
                PLAIN.format(dtype),
                "llama.cpp",
                "llama-quantize",
                ("gguf",),
                partial(plain_scales, dtype=dtype, folder=Path(folder)),
            )
            for dtype in ("q4_0", "q5_0")
        ]
        forms = [*FORMS, *plain]
        return compare_forms(
            model,
            text,
            calibrate=calibration,
            forms=forms,
            num_tokens=num_tokens,
            say=lambda said: print(said, file=sys.stderr),
        )


def main() -> None:
    """Measure every form, and record it."""
    parser = argparse.ArgumentParser(usage="python benchmarks/quantization.py MODEL TEXT CALIBRATION [--tokens N]")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("calibration")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    given = parser.parse_args()
    found = measured(given.model, given.text, given.calibration, given.tokens)
    body = found.to_dict()
    details = {
        **body,
        "text": Path(given.text).name,
        "calibration": Path(given.calibration).name,
        "model": Path(given.model).name,
        "load": os.getloadavg(),
    }
    # Where the model and the texts lie on this machine is nobody's business.
    sys.argv = ["benchmarks/quantization.py", "MODEL", "TEXT", "CALIBRATION", "--tokens", str(given.tokens)]
    print(record("quantization", claims_of({row.form: row for row in found.rows}), details).read_text())


if __name__ == "__main__":
    main()
