"""Claim: QLoRA through `stentor finetune --quantize` works on a GPU, and its result is as good as without.

usage: python benchmarks/finetune_gpu.py MODEL TEXT [KEEP]

Runs the command as anybody would, without quantizing, in 4 bits and in 8, for about a minute in all, on the beginning
of TEXT; prints bits per byte before and after. A run that fails prints why, and the others go on. The merged model then
writes a sentence on the GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from record import Claim, record

from finetune import beginning

TEXT_BYTES, KEEP_BYTES, EPOCHS = 1_000_000, 300_000, 2
KINDS = (None, "4bit", "8bit")


def stentor(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stentor", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"$ stentor {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stderr[-3000:]}", flush=True)
    return done


def main() -> None:
    model, text, *more = sys.argv[1:]
    device = "cpu" if "--cpu" in more else "cuda"
    keep = [name for name in more if name != "--cpu"]
    sys.argv[1:] = ["MODEL", *(Path(name).name for name in (text, *keep))]
    claims: list[Claim] = []
    details: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--device", device, "--epochs", EPOCHS if device == "cuda" else 0.01, "--json"]
        if keep:
            options += ["--keep", beginning(keep[0], KEEP_BYTES, folder / "keep.jsonl")]
        source = beginning(text, TEXT_BYTES if device == "cuda" else 60_000, folder / "text.jsonl")
        for quantize in KINDS:
            kind, out = quantize or "float", folder / (quantize or "float")
            asked = ["--quantize", quantize] if quantize else []
            done = stentor("finetune", model, source, out, *options, *asked)
            if done.returncode:
                details[kind] = done.stderr[-500:].replace(name, "")
                continue
            report = json.loads(done.stdout)
            details[kind] = {**report, "path": kind}
            for part in ("held_out", "kept") if keep else ("held_out",):
                before, after = (report[part][when]["bits_per_byte"] for when in ("before", "after"))
                print(f"{kind}, {part}: {before:.4f} -> {after:.4f} bits per byte", flush=True)
                claims.append(
                    Claim(
                        what=f"{kind}: {part.replace('_', ' ')}",
                        value=after,
                        unit="bits per byte",
                        better="lower",
                        peer="before",
                        peer_value=before,
                    )
                )
            stentor("generate", "The function returns", "--model", out / "merged", "--device", device, "--stats")
    if device == "cuda":
        print(record("finetune_gpu", claims, details))


if __name__ == "__main__":
    main()
