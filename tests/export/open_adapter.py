"""Opens an adapter with stock peft and transformers, beside its model, and compares it with the merged model.

Run by tests/export/test_external_transformers.py with the Python of an environment that has peft, transformers and
torch but no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
import warnings

import torch
import transformers
from peft import PeftModel


def opened(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(model, expected):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([expected["window"]])).logits[0, expected["positions"]]


def greedy_text(model, tokenizer, expected):
    inputs = tokenizer(expected["prompt"], return_tensors="pt")
    ids = model.generate(
        **inputs,
        max_new_tokens=expected["num_generated"],
        do_sample=False,
        temperature=None,
        top_p=None,
        repetition_penalty=1.0,
    )
    return tokenizer.decode(
        ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def largest(difference):
    return float(difference.abs().max())


def main(adapter, expected):
    base = logits_of(opened(expected["base"]), expected)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # What peft asks of transformers with any adapter, whoever made it.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        model = PeftModel.from_pretrained(opened(expected["base"]), adapter).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(expected["merged"])
    logits = logits_of(model, expected)
    text = greedy_text(model, tokenizer, expected)
    return {
        "transformers": transformers.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "warnings": [str(warning.message) for warning in said],
        "generated": text,
        "difference_from_the_base": largest(logits - base),
        "max_logit_differences": {
            "merged/, as transformers opens it": largest(logits - logits_of(opened(expected["merged"]), expected)),
            "merged/, as Stentor opens it": largest(logits - torch.tensor(expected["logits"])),
            "merged again": largest(logits_of(model.merge_and_unload(), expected) - logits),
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
