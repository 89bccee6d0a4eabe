"""llama-cpp-python's own calls, in the right order and with the settings that were asked for."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from stentor.bench.in_llama_cpp import open_engine
from stentor.bench.setting import FLASH, PLAIN, Setting
from stentor.errors import UserError

VOCAB_SIZE = 11


class Library:
    """Stands in for the package: the likeliest token is the number of tokens that are remembered."""

    __version__ = "0.3"
    GGML_TYPE_F16, GGML_TYPE_Q8_0 = 1, 8
    llama_token = ctypes.c_int32

    def __init__(self) -> None:
        self.remembered: list[int] = []
        self.status = 0

    def Llama(self, path, **given):
        self.given = {"path": path, **given}
        return SimpleNamespace(ctx="context", n_vocab=lambda: VOCAB_SIZE)

    def llama_print_system_info(self):
        return b"CPU : AVX512_VNNI = 1 | "

    def llama_get_memory(self, context):
        return context

    def llama_memory_clear(self, memory, data):
        assert (memory, data) == ("context", True)
        self.remembered = []

    def llama_batch_get_one(self, ids, count):
        return list(ids)[:count]

    def llama_decode(self, context, batch):
        self.remembered += batch
        return self.status

    def llama_get_logits_ith(self, context, index):
        assert (context, index) == ("context", -1)
        self.logits = (ctypes.c_float * VOCAB_SIZE)()
        self.logits[len(self.remembered)] = 1
        return ctypes.cast(self.logits, ctypes.POINTER(ctypes.c_float))


@pytest.fixture
def library(monkeypatch):
    module = Library()
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    return module


def setting(attention=FLASH, cache_dtype="float16"):
    return Setting(engine="llama_cpp", dtype="q8_0", cache_dtype=cache_dtype, attention=attention, num_threads=2)


def test_tokens_follow_each_other_and_a_prompt_begins_anew(library, request_of):
    engine = open_engine(request_of(setting()))
    assert engine.decode([7, 8], 3) > 0
    assert library.remembered == [7, 8, 2, 3, 4]
    assert engine.prefill([9]) > 0
    assert library.remembered == [9]
    assert engine.version == "0.3; CPU : AVX512_VNNI = 1"


@pytest.mark.parametrize(("attention", "is_flash"), [(FLASH, True), (PLAIN, False)])
@pytest.mark.parametrize(("cache_dtype", "number"), [("float16", 1), ("q8_0", 8)])
def test_settings_arrive(library, request_of, attention, is_flash, cache_dtype, number):
    request = request_of(setting(attention, cache_dtype))
    open_engine(request)
    given = library.given
    assert (given["path"], given["flash_attn"]) == (request.path, is_flash)
    assert (given["n_threads"], given["n_threads_batch"]) == (2, 2)
    assert (given["type_k"], given["type_v"]) == (number, number)
    assert given["n_ctx"] > given["n_batch"] == request.work.num_tokens


def test_a_failure_is_no_measurement(library, request_of):
    engine = open_engine(request_of(setting()))
    library.status = 1
    with pytest.raises(UserError, match="could not read 2 tokens"):
        engine.prefill([1, 2])
