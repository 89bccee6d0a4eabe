"""Opens an exported folder with stock transformers and compares it with what Stentor expects of it.

Run by tests/export/test_external_transformers.py with the Python of an environment that has transformers and torch
but no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers


def main(folder, expected):
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, loading = loaded
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in expected["strings"]]
    window = torch.tensor([expected["window"]])
    with torch.inference_mode():
        logits = model.eval()(window).logits[0]
    difference = (logits[expected["positions"]] - torch.tensor(expected["logits"])).abs().max()
    texts = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
    inputs = tokenizer("Rivers carry", return_tensors="pt")
    sample = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        tokenizer.save_pretrained(again)
        reloaded = transformers.AutoModelForCausalLM.from_pretrained(again).eval()
        reloaded_tokenizer = transformers.AutoTokenizer.from_pretrained(again)
        with torch.inference_mode():
            is_equal_again = torch.equal(reloaded(window).logits[0], logits)
        same_ids_again = [reloaded_tokenizer(text)["input_ids"] for text in expected["strings"]] == ids
    return {
        "transformers": transformers.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "loading": {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries},
        "different_ids": [i for i, row in enumerate(ids) if row != expected["ids"][i]],
        "different_texts": [i for i, text in enumerate(texts) if text != expected["strings"][i]],
        "max_logit_difference": float(difference),
        "num_generated": sample.shape[1] - inputs["input_ids"].shape[1],
        "is_equal_again": is_equal_again,
        "same_ids_again": same_ids_again,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": tokenizer.model_max_length,
        "rope_theta": json.loads((Path(folder) / "config.json").read_text())["rope_theta"],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
