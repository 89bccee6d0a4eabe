"""Opens a folder with plain `from_pretrained` and tells which of its tensors are what the file says.

Run by tests/export/test_external_reference.py with the Python of an environment that has transformers and torch but
no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file


def main(folder):
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, loading = loaded
    stored = load_file(Path(folder) / "model.safetensors")
    truth = {name.replace("weight_master", "weight"): tensor for name, tensor in stored.items()}
    truth["lm_head.weight"] = truth["model.embed_tokens.weight"]
    return {
        "transformers": transformers.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "loading": {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries},
        "wrong": sorted(name for name, tensor in model.state_dict().items() if not torch.equal(tensor, truth[name])),
    }


def by_the_readme(folder):
    """Run the program that the folder's README gives, from the folder above, and compare every tensor."""
    program = (Path(folder) / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(program, scope)
    tensors = {"lm_head.weight": scope["tensors"]["model.embed_tokens.weight"], **scope["tensors"]}
    state = scope["model"].state_dict()
    return sorted(name for name in state if not torch.equal(state[name], tensors[name]))


if __name__ == "__main__":
    found = main(sys.argv[1])
    if "--by-the-readme" in sys.argv:
        found["wrong_by_the_readme"] = by_the_readme(sys.argv[1])
    print(json.dumps(found))
