"""Opens a checkpoint in the reference's layout with `stentor.load_stentor2` and compares it with what the file says.

Run by tests/export/test_external_reference.py with the Python of an environment that has transformers and torch, and
Stentor's sources to import; prints one JSON object.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

import stentor

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def differing(state, truth):
    return sorted({*state} ^ {*truth}) + sorted(
        name
        for name in {*state} & {*truth}
        if not torch.equal(state[name].view(torch.int32), truth[name].view(torch.int32))
    )


def main(folder, expected):
    with warnings.catch_warnings(record=True) as said, tempfile.TemporaryDirectory() as again:
        warnings.simplefilter("always")
        opened: Any = stentor.load_stentor2(folder)
        model, tokenizer = opened
        model.save_pretrained(again)
        tokenizer.save_pretrained(again)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(again, output_loading_info=True)
        reopened = loaded[0].state_dict()
    stored = {
        name.replace("_master", ""): tensor for name, tensor in load_file(Path(folder) / "model.safetensors").items()
    }
    with torch.inference_mode():
        logits = model(torch.tensor([expected["window"]])).logits[0]
    return {
        "transformers": transformers.__version__,
        "has_stentor": True,
        "class": type(model).__name__,
        "wrong": differing(model.state_dict(), {**stored, HEAD: stored[EMBEDDING]}),
        "different_ids": [
            i for i, text in enumerate(expected["strings"]) if tokenizer(text)["input_ids"] != expected["ids"][i]
        ],
        "warnings": [str(warning.message) for warning in said],
        "is_one_tensor": model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(),
        "loading_again": {kind: len(entries) for kind, entries in loaded[1].items() if entries},
        "same_tensors_again": not differing(reopened, model.state_dict()),
        "max_logit_difference": float((logits[expected["positions"]] - torch.tensor(expected["logits"])).abs().max()),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
