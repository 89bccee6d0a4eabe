"""llama.cpp through the wheel `xllamacpp`, which has its server and nothing below it.

The server times its own work: reading a prompt until a token is drawn, and all tokens after the first. What it takes
to carry a request to it and a text back is not counted.
"""

from __future__ import annotations

import http.client
import importlib
import json
from collections.abc import Sequence
from typing import Any

from stentor.bench.engine import Engine
from stentor.bench.setting import FLASH, Request
from stentor.errors import UserError

_ERRORS_ONLY = 1
_GREEDY = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "cache_prompt": False}


def open_engine(request: Request) -> Engine:
    """Return a server that has loaded the model."""
    return ServerEngine(importlib.import_module("xllamacpp"), request)


class ServerEngine:
    """llama.cpp's server, asked for one text at a time.

    Args:
        xllamacpp: the module, which has no type information.
        request: what to load, and how.
    """

    def __init__(self, xllamacpp: Any, request: Request) -> None:
        self._server = xllamacpp.Server(_parameters(xllamacpp, request))
        self._connection = http.client.HTTPConnection(self._server.listening_address.removeprefix("http://"))
        self.version = f"{xllamacpp.__version__}; {xllamacpp.get_system_info().strip(' |')}"

    def prefill(self, token_ids: Sequence[int]) -> float:
        """Return the seconds; see `Engine`."""
        return self._timings(token_ids, 1)["prompt_ms"] / 1000

    def decode(self, token_ids: Sequence[int], num_new_tokens: int) -> float:
        """Return the seconds of a token; see `Engine`. The first is the prompt's."""
        return self._timings(token_ids, num_new_tokens + 1)["predicted_ms"] / 1000 / num_new_tokens

    def _timings(self, token_ids: Sequence[int], num_new_tokens: int) -> dict[str, Any]:
        body = json.dumps({"prompt": list(token_ids), "n_predict": num_new_tokens, **_GREEDY})
        self._connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        timings = answer.get("timings", {})
        if (timings.get("prompt_n"), timings.get("predicted_n")) != (len(token_ids), num_new_tokens):
            raise UserError(f"llama.cpp did something else than it was asked for: {str(answer)[:300]}")
        return timings


def _parameters(xllamacpp: Any, request: Request) -> Any:
    """Return settings for one text at a time, as fast as it goes."""
    parameters, setting = xllamacpp.CommonParams(), request.setting
    parameters.model.path = request.path
    parameters.n_ctx = request.work.num_tokens + 1
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = setting.num_threads
    cache_type = {"float16": "F16", "q8_0": "Q8_0"}[setting.cache_dtype]
    parameters.cache_type_k = parameters.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{cache_type}")
    state = "ENABLED" if setting.attention == FLASH else "DISABLED"
    parameters.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{state}")
    parameters.cache_ram_mib = parameters.n_ctx_checkpoints = 0  # nothing is kept of a text that is done
    parameters.n_gpu_layers = 0
    parameters.fit_params = False
    parameters.verbosity = _ERRORS_ONLY
    return parameters
