"""The section on running the model: a program for each consumer that can open what is there, and how to get the "
"rest."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from stentor.report.card.markdown import code, fenced, paragraphs, plain
from stentor.report.card.subject import Material, ShippedFile

_TRANSFORMERS = """\
{imports}from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place})
model, report = AutoModelForCausalLM.from_pretrained({place}, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report  # else weights would be random

inputs = tokenizer("The history of computing began", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=50)  # sampling as generation_config.json says
print(tokenizer.decode(output[0], skip_special_tokens=True))
"""
_STENTOR = """\
pip install stentor
stentor generate "The history of computing began" --model {place} --stats
"""
_LLAMA_CPP = 'llama-cli -m {file} -p "The history of computing began" -n 50 -no-cnv'
_ONNXRUNTIME = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession({file})
caches = [one for one in session.get_inputs() if one.name.startswith("past")]
past = {{one.name: np.zeros([1, one.shape[1], 0, one.shape[3]], np.float32) for one in caches}}  # of nothing read yet
text = "The history of computing began"
ids = tokenizer.encode(text).ids
for _ in range(50):  # greedy, without the cache of what was read
    row = np.array([ids], np.int64)
    inputs = {{"input_ids": row, "attention_mask": np.ones_like(row), "position_ids": np.arange(len(ids))[None]}}
    ids.append(int(session.run(["logits"], inputs | past)[0][0, -1].argmax()))
print(tokenizer.decode(ids))
"""
_TRANSFORMERS_JS = """\
import {{ pipeline }} from "@huggingface/transformers";

const generate = await pipeline("text-generation", {place}, {{ dtype: "{dtype}" }});
console.log(await generate("The history of computing began", {{ max_new_tokens: 50, do_sample: true }}));
"""


def running(material: Material) -> str:
    """Return how to run the model where it can be run, and which command makes what is not there."""
    parts = [f"### {title}\n\n{body}" for title, body in _consumers(material)]
    return paragraphs(_proof(material), *parts)


def _consumers(material: Material) -> Iterator[tuple[str, str]]:
    subject, place = material.subject, material.place
    if subject.named(".safetensors"):
        yield "transformers", _in_transformers(material)
    gguf = [file for file in subject.named(".gguf") if "/" not in file.name]
    command = code(f"stentor export {shlex.quote(place)} model.gguf --to gguf --dtype q8_0", in_table=False)
    if gguf:
        yield "llama.cpp", fenced(_LLAMA_CPP.format(file=shlex.quote(gguf[0].name)), "sh")
    elif subject.named(".safetensors"):
        yield "llama.cpp", f"{command} writes a file for it, and proves it first." + _mapped(material)
    yield from _onnx(material, subject.named(".onnx"))
    yield "Stentor", paragraphs("On a CPU, without PyTorch:", fenced(_STENTOR.format(place=shlex.quote(place)), "sh"))


def _in_transformers(material: Material) -> str:
    place = _literal(material.plain_folder)
    if not material.subject.is_tokenmonster:
        return fenced(_TRANSFORMERS.format(place=place, imports=""), "python")
    imports = "import stentor.hf  # registers the TokenMonster tokenizer\n"
    words = "transformers has no TokenMonster; `pip install 'stentor[hf]'` brings it. No `trust_remote_code` is needed."
    return paragraphs(words, fenced(_TRANSFORMERS.format(place=place, imports=imports), "python"))


def _literal(text: str) -> str:
    """Return a text as a string of Python or JavaScript."""
    return json.dumps(text, ensure_ascii=False)


def _mapped(material: Material) -> str:
    if not material.subject.is_tokenmonster:
        return ""
    return " llama.cpp has no TokenMonster: the file carries the closest mapping, whose ids are not the model's own."


def _onnx(material: Material, files: list[ShippedFile]) -> Iterator[tuple[str, str]]:
    place = material.place
    if not files:
        words = ["stentor", "export", place, f"{material.subject.folder.absolute().name}-onnx", "--to", "onnx"]
        yield "onnxruntime and transformers.js", f"{code(shlex.join(words), in_table=False)} writes a folder for both."
        return
    yield "onnxruntime", fenced(_ONNXRUNTIME.format(file=_literal(files[0].name)), "python")
    if material.subject.is_tokenmonster:
        yield "transformers.js", "It has no TokenMonster, and cannot turn text into this model's ids."
        return
    dtype = "q8" if any("quantized" in file.name for file in files) else "fp32"
    yield "transformers.js", fenced(_TRANSFORMERS_JS.format(place=_literal(place), dtype=dtype), "js")


def _proof(material: Material) -> str:
    """Say what the export of this folder was seen to do, by its own manifest."""
    export = material.subject.export
    proof: Mapping[str, Any] | None = export.get("proof")
    if not export:
        return ""
    if not proof:
        return "**Unverified**: no consumer was installed to prove this folder when it was written."
    try:
        return (
            f"Before this folder was kept it was opened in {plain(proof['consumer'])}: token ids equal on "
            f"{proof['num_strings']:,} mixed strings, largest difference of a logit at {proof['num_positions']} "
            f"positions {proof['stored']['max_logit_difference']:.2g}."
        )
    except (KeyError, TypeError, ValueError, AttributeError):  # of a version whose words are others
        return ""
