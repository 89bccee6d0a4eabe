"""Opens a folder with a TokenMonster vocabulary in transformers, with or without Stentor's sources to import.

Run by tests/export/test_external_tokenmonster.py with the Python of an environment that has transformers and torch;
prints one JSON object.
"""

import importlib
import importlib.util
import json
import sys
import tempfile
from typing import Any

import torch
import transformers

OTHERS = ["AutoTokenizer", "LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2TokenizerFast"]


def refusals(folder):
    """Return what each class says that could be asked to open the folder."""
    said = {}
    for name in OTHERS:
        try:
            said[name] = f"OPENED {getattr(transformers, name).from_pretrained(folder)}"
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def opened(folder, expected):
    importlib.import_module("stentor.hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    strings, ids = expected["strings"], expected["ids"]
    found = [tokenizer(text)["input_ids"] for text in strings]
    batch = tokenizer(strings[:8], padding=True, truncation=True, max_length=16, return_tensors="pt")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer("The people of", return_tensors="pt")
    with torch.inference_mode():
        generated = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    with tempfile.TemporaryDirectory() as again:
        tokenizer.save_pretrained(again)
        reloaded = transformers.AutoTokenizer.from_pretrained(again)
        same_again = [reloaded(text)["input_ids"] for text in strings] == ids
        refused_again = refusals_without_ours(again)
    return {
        "class": type(tokenizer).__name__,
        "different_ids": [i for i, row in enumerate(found) if row != ids[i]],
        "different_texts": [i for i, row in enumerate(ids) if tokenizer.decode(row) != expected["texts"][i]],
        "padded": [row[mask.bool()].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"])],  # noqa: B905
        "padding": sorted(set(batch["input_ids"][batch["attention_mask"] == 0].tolist())),
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": tokenizer.model_max_length,
        "generated": tokenizer.decode(generated[0]),
        "generated_ids": generated[0].tolist(),
        "same_ids_again": same_again,
        "refused_again": refused_again,
    }


def refusals_without_ours(folder):
    return {name: said for name, said in refusals(folder).items() if name != "AutoTokenizer"}


if __name__ == "__main__":
    has_stentor = importlib.util.find_spec("stentor") is not None
    question = json.load(sys.stdin)
    answer = opened(sys.argv[1], question) if has_stentor else refusals(sys.argv[1])
    print(json.dumps({"transformers": transformers.__version__, "has_stentor": has_stentor, "answer": answer}))
