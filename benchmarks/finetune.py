"""Claim: `stentor finetune` teaches a model another kind of text in minutes on a CPU, and what it forgets is measured.

usage: python benchmarks/finetune.py MODEL GENERAL [--quantize 4bit|8bit]

The text to learn is the beginning of the documentation that every Python carries (`builtin:docs`), of which a tenth is
held out; GENERAL is a file or another source of text of the kind that the model was trained on, of whose beginning the
cost is measured. Both are in bits per byte of final weights. The adapter and the merged model are opened in peft and
transformers, or there is no result.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from record import Claim, record

from stentor.artifacts import write_file
from stentor.finetune.run import BeforeAndAfter, FinetuneReport, finetune
from stentor.finetune.settings import FinetuneSettings
from stentor.text.sources import read_texts

DOMAIN_BYTES, GENERAL_BYTES = 500_000, 200_000
LARGEST_RISE = 0.05
"""Bits per byte that the general text may lose."""


def beginning(spec: str, num_bytes: int, path: Path) -> str:
    """Write the first documents of a source that hold so many bytes, and return the file's name."""
    lines, size = [], 0
    for text in read_texts(spec):
        lines.append(json.dumps({"text": text}))
        size += len(text.encode())
        if size >= num_bytes:
            break
    write_file(path, "\n".join(lines) + "\n")
    return str(path)


@contextmanager
def silent(label: str) -> Iterator:
    yield lambda *_: None


def claim(what: str, measured: BeforeAndAfter, target: float | None) -> Claim:
    return Claim(
        what=what,
        value=measured.after.bits_per_byte,
        unit="bits per byte",
        better="lower",
        target=target,
        peer="before",
        peer_value=measured.before.bits_per_byte,
    )


def claims(report: FinetuneReport) -> Iterator[Claim]:
    assert report.kept is not None
    yield claim("documentation, held out", report.held_out, report.held_out.before.bits_per_byte)
    yield claim("general text", report.kept, report.kept.before.bits_per_byte + LARGEST_RISE)
    yield Claim(what="time of the training", value=report.seconds, unit="s", better="lower", target=600.0)


def main() -> None:
    model, general, *rest = sys.argv[1:]
    sys.argv[1:3] = ["MODEL", Path(general).name]
    settings = FinetuneSettings(quantize=rest[1] if rest else None)
    with tempfile.TemporaryDirectory() as folder:
        report = finetune(
            model,
            beginning("builtin:docs", DOMAIN_BYTES, Path(folder) / "docs.jsonl"),
            Path(folder) / "out",
            settings,
            keep=beginning(general, GENERAL_BYTES, Path(folder) / "general.jsonl"),
            watch=silent,
            on_step=lambda step: print(step, file=sys.stderr, flush=True),
        )
    details = {**report.to_dict(), "path": None}
    name = f"finetune_{settings.quantize}" if settings.quantize else "finetune"
    print(record(name, list(claims(report)), details))


if __name__ == "__main__":
    main()
