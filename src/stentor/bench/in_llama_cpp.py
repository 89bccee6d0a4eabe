"""llama.cpp through the package `llama-cpp-python`, which pip builds for this machine: its own calls, no server."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from stentor.bench.engine import Engine, SteppedEngine
from stentor.bench.setting import FLASH, Request
from stentor.errors import UserError


def open_engine(request: Request) -> Engine:
    """Return the model of a GGUF file."""
    library: Any = importlib.import_module("llama_cpp")  # has no type information
    setting = request.setting
    cache_type = getattr(library, {"float16": "GGML_TYPE_F16", "q8_0": "GGML_TYPE_Q8_0"}[setting.cache_dtype])
    model = library.Llama(
        request.path,
        n_ctx=request.work.num_tokens + 1,
        n_batch=request.work.num_tokens,
        n_threads=setting.num_threads,
        n_threads_batch=setting.num_threads,
        flash_attn=setting.attention == FLASH,
        type_k=cache_type,
        type_v=cache_type,
        verbose=False,
    )

    def read(token_ids: Sequence[int], start: int) -> int:
        return _likeliest(library, model, token_ids, start)

    build = library.llama_print_system_info().decode().strip(" |")
    return SteppedEngine(read, version=f"{library.__version__}; {build}")


def _likeliest(library: Any, model: Any, token_ids: Sequence[int], start: int) -> int:
    if start == 0:
        library.llama_memory_clear(library.llama_get_memory(model.ctx), True)
    ids = (library.llama_token * len(token_ids))(*token_ids)
    failed = library.llama_decode(model.ctx, library.llama_batch_get_one(ids, len(token_ids)))
    if failed:
        raise UserError(f"llama.cpp could not read {len(token_ids)} tokens from {start} on (status {failed})")
    logits = ctypes.cast(library.llama_get_logits_ith(model.ctx, -1), ctypes.POINTER(ctypes.c_float))
    return int(np.ctypeslib.as_array(logits, (model.n_vocab(),)).argmax())
