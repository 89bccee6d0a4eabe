"""Child process: open a GGUF file in real llama.cpp, through the wheel `xllamacpp`, and say what came of it."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.export.consumer import Answer, Question, reply

_FORCE = 1e4
_ERRORS_ONLY = 1
_TOKENIZE_TIMEOUT_S = 10


def answer(question: Question) -> Answer:
    """Load the file and ask llama.cpp's own server for ids, every token's bytes, and log-probabilities."""
    # A compiled module without type information.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    server = xllamacpp.Server(_parameters(xllamacpp, question.path, len(question.window) + 1))
    address = server.listening_address.removeprefix("http://")
    ids = _token_ids(http.client.HTTPConnection(address, timeout=_TOKENIZE_TIMEOUT_S), question.strings)
    connection = http.client.HTTPConnection(address)
    rows = [_next_token(connection, question, position) for position in question.positions]
    facts = {
        "version": xllamacpp.__version__,
        "ids": ids,
        "token_bytes": {entry["id"]: bytes(entry["bytes"]).hex() for entry in rows[0]},
    }
    return Answer(facts, np.stack([_log_probs(row) for row in rows]))


def _parameters(xllamacpp: Any, path: str, num_tokens: int) -> Any:
    """Return settings that show the file as it is: keys and values in float32, plain attention, no batching."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = num_tokens
    # Its threads spin while they wait for each other: on a busy machine two are far slower than one.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.n_gpu_layers = 0
    parameters.warmup = parameters.fit_params = False
    parameters.verbosity = _ERRORS_ONLY
    return parameters


def _token_ids(connection: http.client.HTTPConnection, strings: list[str]) -> list[list[int]]:
    """Return the ids of each string.

    With some vocabularies llama.cpp's loop never ends and takes more memory with each round, and no exit of Python's
    waits less for it than this one.
    """
    for_each: list[list[int]] = []
    for text in strings:
        try:
            for_each.append(_post(connection, "/tokenize", {"content": text})["tokens"])
        except TimeoutError:
            print(f"llama.cpp found no end in the token ids of {text[:200]!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return for_each


def _next_token(connection: http.client.HTTPConnection, question: Question, position: int) -> list[dict[str, Any]]:
    """Return id, bytes and log-probability of every token after the window's first `position` + 1 tokens.

    The server reports probabilities only beside a sampled token that is printable and no end of text, so one is
    forced; the probabilities are those before this bias.
    """
    body = {
        "prompt": question.window[: position + 1],
        "n_predict": 1,
        "n_probs": 1 << 30,
        "logit_bias": [[question.plain_token, _FORCE]],
        "cache_prompt": True,
    }
    return _post(connection, "/completion", body)["completion_probabilities"][0]["top_logprobs"]


def _log_probs(entries: list[dict[str, Any]]) -> NDArray[np.float32]:
    row_V = np.full(len(entries), np.nan, dtype=np.float32)
    for entry in entries:
        row_V[entry["id"]] = entry["logprob"]
    return row_V


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    if response.status != http.client.OK:
        sys.exit(f"llama.cpp answered {response.status} at {path}: {data[:500].decode(errors='replace')}")
    return json.loads(data)


if __name__ == "__main__":
    reply(answer)
