"""Opens a GGUF file with transformers' own reader and compares its weights and its ids with what Stentor reads there.

Run by tests/export/test_external_gguf.py with the Python of an environment that has transformers, torch, gguf and
accelerate but no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file


def weights(file, expected):
    """Return the first line of the reader's refusal, or how far its weights are from those of a folder."""
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, output_loading_info=True, dtype=torch.float32
        )
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error).partition("\n")[0]}
    model, loading = loaded
    state, stored = model.state_dict(), load_file(Path(expected["folder"]) / "model.safetensors")
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([expected["window"]])).logits[0]
    return {
        "loading": {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries},
        "weights": max(float((state[name] - tensor).abs().max()) for name, tensor in stored.items()),
        "logits": float((logits[expected["positions"]] - torch.tensor(expected["logits"])).abs().max()),
    }


def main(file, expected):
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in expected["strings"]]
    return {
        "transformers": transformers.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "different_ids": [i for i, row in enumerate(ids) if row != expected["ids"][i]],
        **weights(file, expected),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.load(sys.stdin))))
