"""Opens an exported folder in onnxruntime with what its users have, and compares it with what Stentor expects of it.

Run by tests/export/test_external_onnx.py with the Python of an environment that has onnxruntime, tokenizers and numpy
but no Stentor; prints one JSON object.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers


class Graph:
    """A graph and the keys and values of what it has read."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.num_read = 0
        self.past = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype=np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values")
        }

    def read(self, ids):
        """Read more token ids; return the logits after each [T, V]."""
        start, self.num_read = self.num_read, self.num_read + len(ids)
        logits, *present = map(
            np.asarray,
            self.session.run(
                None,
                {
                    "input_ids": np.array([ids]),
                    "attention_mask": np.ones((1, self.num_read), dtype=np.int64),
                    "position_ids": np.arange(start, self.num_read)[None],
                    **self.past,
                },
            ),
        )
        self.past = dict(zip(self.past, present, strict=True))
        return logits[0]


def generated(path, ids, eos_token_id, num_tokens):
    """Return the likeliest token ids after some, up to the end of the text."""
    graph, made, new = Graph(path), [], ids
    while len(made) < num_tokens:
        new = [int(graph.read(new)[-1].argmax())]
        if new == [eos_token_id]:
            break
        made += new
    return made


def main(folder, expected):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    eos_token_id = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(expected["strings"])]
    prompt, differences, texts = tokenizer.encode(expected["prompt"]).ids, {}, {}
    for name, logits in expected["logits"].items():
        path = folder / "onnx" / name
        difference = Graph(path).read(expected["window"])[expected["positions"]] - np.array(logits, dtype=np.float32)
        differences[name] = float(np.abs(difference).max())
        texts[name] = tokenizer.decode(generated(path, prompt, eos_token_id, expected["num_generated"]))
    return {
        "onnxruntime": onnxruntime.__version__,
        "has_stentor": importlib.util.find_spec("stentor") is not None,
        "different_ids": [i for i, row in enumerate(ids) if row != expected["ids"][i]],
        "max_logit_difference": differences,
        "generated": texts,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.load(sys.stdin))))
