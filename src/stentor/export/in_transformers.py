"""Child process: open a model folder as any user of transformers would, and say what came of it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from stentor.export.consumer import Answer, Question, reply
from stentor.tokenizer.tokenmonster.load import is_tokenmonster


def answer(question: Question) -> Answer:
    """Load the folder with plain `from_pretrained` and compute ids and logits, in float32."""
    import torch
    import transformers

    if is_tokenmonster(question.path):
        importlib.import_module("stentor.hf")  # as the folder's README tells its users
    # Typed as a model alone; with a loading report it is a pair.
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(question.path, output_loading_info=True)
    model, loading = loaded
    tokenizer = transformers.AutoTokenizer.from_pretrained(question.path)
    with torch.inference_mode():
        logits_TV = model.float().eval()(torch.tensor([question.window])).logits[0]
    facts = {
        "version": transformers.__version__,
        "loading": {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries},
        "ids": [tokenizer(text)["input_ids"] for text in question.strings],
    }
    return Answer(facts, logits_TV[question.positions].numpy().astype(np.float32))


if __name__ == "__main__":
    reply(answer)
