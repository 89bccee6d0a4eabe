"""Opens an exported folder with stock transformers and compares it with what Stentor expects of it.

Run by tests/export/test_external_transformers.py with the Python of an environment that has transformers and torch
but no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

WEIGHTS = "model.safetensors"


def bits(tensor):
    return tensor.view(torch.int32 if tensor.element_size() == 4 else torch.int16)


def same_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(bits(one[name]), bits(other[name])) for name in one)


def saved_again(folder, model, tokenizer, strings, ids):
    """Save what was opened, open that and save it once more; tell what is still the same."""
    with tempfile.TemporaryDirectory() as root:
        first, second = Path(root) / "first", Path(root) / "second"
        model.save_pretrained(first)
        tokenizer.save_pretrained(first)
        reloaded: Any = transformers.AutoModelForCausalLM.from_pretrained(first, dtype="auto", output_loading_info=True)
        reloaded[0].save_pretrained(second)
        reloaded_tokenizer = transformers.AutoTokenizer.from_pretrained(first)
        return {
            "same_tensors_again": same_tensors(load_file(Path(folder) / WEIGHTS), load_file(first / WEIGHTS)),
            "same_bytes_again": (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes(),
            "loading_again": {kind: len(entries) for kind, entries in reloaded[1].items() if entries},
            "same_ids_again": [reloaded_tokenizer(text)["input_ids"] for text in strings] == ids,
        }


def generated(model, tokenizer, prompt, num_tokens):
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(
        **inputs, max_new_tokens=num_tokens, do_sample=False, temperature=None, top_p=None, repetition_penalty=1.0
    )
    return tokenizer.decode(
        ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def main(folder, expected):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
        model, loading = loaded
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [tokenizer(text)["input_ids"] for text in expected["strings"]]
        again = saved_again(folder, model, tokenizer, expected["strings"], ids)
    dtype, head, embedding = str(model.dtype), model.lm_head.weight, model.model.embed_tokens.weight
    is_one_tensor = head.data_ptr() == embedding.data_ptr()
    model = model.float().eval()
    with torch.inference_mode():
        logits = model(torch.tensor([expected["window"]])).logits[0]
    difference = (logits[expected["positions"]] - torch.tensor(expected["logits"])).abs().max()
    texts = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
    return {
        "transformers": transformers.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "dtype": dtype.removeprefix("torch."),
        "loading": {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries},
        "warnings": [str(warning.message) for warning in said],
        "is_one_tensor": is_one_tensor,
        "different_ids": [i for i, row in enumerate(ids) if row != expected["ids"][i]],
        "different_texts": [i for i, text in enumerate(texts) if text != expected["strings"][i]],
        "max_logit_difference": float(difference),
        "generated": generated(model, tokenizer, expected["prompt"], expected["num_generated"]),
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "model_max_length": tokenizer.model_max_length,
        "rope_theta": json.loads((Path(folder) / "config.json").read_text())["rope_theta"],
        **again,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
