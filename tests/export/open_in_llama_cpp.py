"""Opens a GGUF file in llama.cpp, through the wheel `xllamacpp`, as its users do, and has it write greedily.

usage: python tests/export/open_in_llama_cpp.py FILE PROMPT NUM_TOKENS; prints one JSON object.
"""

import importlib
import json
import sys
from typing import Any


def main(file, prompt, num_tokens):
    xllamacpp: Any = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx = 128
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_gpu_layers = 0
    parameters.warmup = parameters.fit_params = False
    parameters.verbosity = 1
    server = xllamacpp.Server(parameters)
    answer = server.handle_completions({"prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "top_k": 1})
    return {"version": xllamacpp.__version__, "text": answer["choices"][0]["text"]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
