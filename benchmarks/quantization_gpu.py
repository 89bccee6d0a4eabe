"""Claim: bitsandbytes opens a plain exported folder in 8 and 4 bits on a GPU, for a small cost in bits per byte.

usage: python benchmarks/quantization_gpu.py FOLDER TEXT [--tokens N]

FOLDER is an export in Hugging Face layout (`stentor export MODEL FOLDER --to huggingface`); TEXT a plain text, of which
the beginning is measured. Needs torch with CUDA, transformers and bitsandbytes. Tokens are made greedily, by
transformers' `generate`, after 128; bytes are those of the weights on the GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Claim, record
from transformers import AutoModelForCausalLM, GenerationConfig

from stentor.bench.quantization import LOGIT_TOKENS, Sample, sample_of
from stentor.export.parity import compare_logits
from stentor.export.torch_forms import BITSANDBYTES, open_bitsandbytes
from stentor.model.measure import measure
from stentor.runtime.transformers_network import TransformersNetwork
from stentor.tokenizer import Tokenizer

TOKENS, POSITION, NEW_TOKENS, REPEATS = 65_536, 128, 64, 5
DOCUMENT = 4_000
"""Characters that are read as one document: the script needs no reader of other files."""
LIMITS = {"float16": 0.001, "bfloat16": 0.005, "int8": 0.02, "nf4": 0.1}
"""What a form may add to the bits per byte of float32."""


def open_form(folder: str, form: str, device: str) -> Any:
    """Return a model of transformers in a form."""
    if form in BITSANDBYTES:
        return open_bitsandbytes(folder, form, device=device)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, form))
    return model.to(device).eval()


def tokens_per_second(model: Any) -> float:
    """Return the tokens of a second, the best of some tries."""
    input_ids = torch.ones((1, POSITION), dtype=torch.long, device=model.device)
    best = 0.0
    for _ in range(REPEATS):
        seconds = [_generate_seconds(model, input_ids, count) for count in (1, NEW_TOKENS + 1)]
        best = max(best, NEW_TOKENS / (seconds[1] - seconds[0]))
    return best


def _generate_seconds(model: Any, input_ids: torch.Tensor, count: int) -> float:
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0
    )
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(input_ids, attention_mask=torch.ones_like(input_ids), generation_config=settings)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measured(folder: str, form: str, sample: Sample, device: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return what a form costs and gives, and its logits [positions, vocabulary]."""
    model = open_form(folder, form, device)
    network = TransformersNetwork(model)
    found = measure(
        network, sample.token_ids, num_bytes=sample.num_bytes, eos_token_id=sample.eos_token_id, batch_size=4
    )
    logits = network.fresh().extend(sample.beginning[:LOGIT_TOKENS], 0, all_scored=True)
    numbers = {
        "bits_per_byte": found.bits_per_byte,
        "weight_bytes": model.get_memory_footprint(),
        "tokens_per_second": tokens_per_second(model),
    }
    return numbers, logits


def main() -> None:
    """Measure every form on the GPU, and record it."""
    parser = argparse.ArgumentParser(usage="python benchmarks/quantization_gpu.py FOLDER TEXT [--tokens N]")
    parser.add_argument("folder")
    parser.add_argument("text")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch finds no CUDA device here")
    text = Path(given.text).read_text(encoding="utf-8")
    documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
    sample = sample_of(Tokenizer.load(given.folder), documents, given.tokens, origin=given.text)
    forms: dict[str, dict[str, Any]] = {}
    reference = None
    for form in ("float32", "float16", "bfloat16", *BITSANDBYTES):
        numbers, logits = measured(given.folder, form, sample, given.device)
        reference = logits if reference is None else reference
        numbers["max_logit_difference"] = compare_logits(reference, logits).max_logit_difference
        forms[form] = numbers
        print(form, numbers, file=sys.stderr, flush=True)
    claims = [
        Claim(
            what=f"{form}: added to float32, {numbers['weight_bytes'] / 1e6:.1f} MB",
            value=numbers["bits_per_byte"] - forms["float32"]["bits_per_byte"],
            unit="bits/byte",
            better="lower",
            target=LIMITS[form],
        )
        for form, numbers in forms.items()
        if form != "float32"
    ]
    details = {
        "model": Path(given.folder).name,
        "text": Path(given.text).name,
        "tokens": len(sample.token_ids),
        "bytes": sample.num_bytes,
        "device": given.device,
        "forms": forms,
    }
    # Where the model and the text lie on this machine is nobody's business.
    sys.argv = ["benchmarks/quantization_gpu.py", "FOLDER", "TEXT", "--tokens", str(given.tokens)]
    print(record("quantization_gpu", claims, details).read_text())


if __name__ == "__main__":
    main()
