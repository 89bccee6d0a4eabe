"""What `load` opens, and what it refuses before it makes room for anything."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_llama

from stentor.artifacts import staged_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.export.gguf_file import write_gguf
from stentor.model import device as device_module
from stentor.model.folder import write_model_folder
from stentor.model.names import to_hugging_face
from stentor.runtime import open as open_module
from stentor.runtime.cpu import CpuNetwork
from stentor.runtime.dtypes import CACHE_DTYPES, DTYPES
from stentor.runtime.engine import load
from stentor.runtime.torch_network import TorchNetwork

PROMPT = "The people who"


@pytest.fixture(scope="module")
def llama(tiny_config):
    return random_llama(dataclasses.replace(tiny_config, num_key_value_heads=1))


@pytest.fixture(scope="module")
def write(llama, tiny_tokenizer, tmp_path_factory):
    """Return a function that writes the model, some tensors changed."""

    def make(**changes: torch.Tensor) -> Path:
        path = tmp_path_factory.mktemp("open") / "model"
        tensors = {**to_hugging_face(llama.config, llama.state_dict()), **changes}
        with staged_directory(path, kind="model") as staging:
            write_model_folder(staging, llama.config, tensors, tiny_tokenizer)
        return path

    return make


@pytest.fixture(scope="module")
def folder(write) -> Path:
    return write()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cache_dtype", CACHE_DTYPES)
def test_every_type_of_weights_and_of_the_cache(folder, dtype, cache_dtype):
    model = load(folder, dtype=dtype, cache_dtype=cache_dtype)
    exact = load(folder, dtype="float32").network.extend([1, 2, 3], 0)
    assert np.corrcoef(model.network.extend([1, 2, 3], 0).ravel(), exact.ravel())[0, 1] > 0.98
    assert len(model.generate(PROMPT, max_new_tokens=9)) > 0


def test_threads_are_chosen_or_named_and_change_no_text(folder):
    chosen = load(folder)
    assert isinstance(chosen.network, CpuNetwork)
    for num_threads in (1, 2):
        named = load(folder, num_threads=num_threads)
        assert isinstance(named.network, CpuNetwork)
        assert named.network.num_threads == min(num_threads, named.network.num_parts)
        assert named.network.max_threads == num_threads
        assert named.generate(PROMPT, seed=3) == chosen.generate(PROMPT, seed=3)


def test_one_core_is_asked_for_no_second_thread(folder, monkeypatch):
    monkeypatch.setattr(open_module, "usable_cores", lambda: 0.5)
    network = load(folder).network
    assert isinstance(network, CpuNetwork)
    assert (network.num_threads, network.max_threads) == (1, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0", "q5_0", "q4_0"])
def test_a_gguf_file_of_any_type_is_what_torch_makes_of_it(llama, tiny_tokenizer, tmp_path, dtype):
    path = tmp_path / "m.gguf"
    tensors = {name: x.numpy() for name, x in to_hugging_face(llama.config, llama.state_dict()).items()}
    write_gguf(path, llama.config, tensors, tiny_tokenizer, dtype=dtype, name="tiny", mapped=None)
    ours, theirs = (
        load(path, dtype="float32"),
        open_module._in_torch(open_module.read_weights(path), torch.device("cpu"), "float32"),
    )
    expected = theirs.extend([5, 6, 7], 0, all_scored=True)
    assert ours.network.extend([5, 6, 7], 0, all_scored=True) == pytest.approx(expected, abs=2e-4)
    assert ours.origin == path
    assert len(load(path).generate(PROMPT)) > 0


def test_bytes_of_a_q8_0_file_are_rounded_once_more_and_stay_near(llama, tiny_tokenizer, tmp_path):
    path = tmp_path / "m.gguf"
    tensors = {name: x.numpy() for name, x in to_hugging_face(llama.config, llama.state_dict()).items()}
    write_gguf(path, llama.config, tensors, tiny_tokenizer, dtype="q8_0", name="tiny", mapped=None)
    exact, rounded = (load(path, dtype=dtype).network.extend([5, 6, 7], 0, all_scored=True) for dtype in DTYPES[:2])
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.995


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int3"}, "there is no dtype 'int3'"),
        ({"dtype": "q8_0"}, "there is no dtype 'q8_0'"),
        ({"cache_dtype": "float16"}, "there is no cache_dtype 'float16'"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
        ({"num_threads": 0}, "num_threads is 0"),
    ],
)
def test_settings_without_such_a_value_are_refused(folder, monkeypatch, options, said):
    monkeypatch.setattr(open_module, "read_weights", None)  # refused before anything is read
    with pytest.raises(UserError, match=said) as caught:
        load(folder, **options)
    assert caught.value.fix


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(write, monkeypatch, value):
    damaged = write(**{"model.norm.weight": torch.full((32,), value)})
    monkeypatch.setattr(open_module, "CpuNetwork", None)
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        load(damaged)


def test_a_gpu_that_is_not_there_is_said(folder, monkeypatch):
    monkeypatch.setattr(device_module, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(MissingDependencyError, match="torch finds no device cuda here"):
        load(folder, device="cuda")


@pytest.mark.parametrize("device", ["auto", "mps"])
def test_a_gpu_that_is_there_computes_in_torch(folder, monkeypatch, device):
    monkeypatch.setattr(open_module, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(device_module, "pick_device", lambda: torch.device("mps"))
    asked = []
    monkeypatch.setattr(
        open_module, "_in_torch", lambda read, chosen, dtype: asked.append(chosen) or TorchNetwork.__new__(TorchNetwork)
    )
    assert isinstance(load(folder, device=device).network, TorchNetwork)
    assert asked == [torch.device("mps")]


@pytest.mark.parametrize(
    ("dtype", "device", "error", "said"),
    [
        ("bfloat16", "cpu", UserError, "a CPU does not compute in bfloat16 here"),
        ("float16", "cpu", UserError, "a CPU does not compute in float16 here"),
        ("int8", "cuda", UserError, "a GPU does not compute in int8 here"),
        ("int4", "mps", UserError, "a GPU does not compute in int4 here"),
        ("bfloat16", "auto", MissingDependencyError, "bfloat16 is for a GPU, and none is found here"),
        ("bfloat16", "cuda", MissingDependencyError, "torch finds no device cuda here"),
    ],
)
def test_types_that_a_device_does_not_compute_in(folder, monkeypatch, dtype, device, error, said):
    monkeypatch.setattr(open_module, "read_weights", None)  # refused before anything is read
    monkeypatch.setattr(device_module, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(error, match=said) as caught:
        load(folder, dtype=dtype, device=device)
    assert "--d" in caught.value.fix


@pytest.mark.parametrize(
    ("dtype", "chosen"), [(None, "mps"), ("float32", "mps"), ("float16", "mps"), ("int8", None), ("int4", None)]
)
def test_auto_is_the_device_that_computes_in_the_type(monkeypatch, dtype, chosen):
    monkeypatch.setattr(open_module, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(device_module, "pick_device", lambda: torch.device("mps"))
    found = open_module._device_for(dtype, "auto")
    assert found == (None if chosen is None else torch.device(chosen))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_torch_computes_in_the_type_that_is_named_and_is_ready(folder, dtype, expected):
    network = open_module._in_torch(open_module.read_weights(folder), torch.device("cpu"), dtype)
    assert isinstance(network, TorchNetwork)
    (room,) = network._rooms._free[1]  # of the pass that compiled and recorded
    assert room.cache.k_LBKSH.dtype == expected
    assert network.fresh()._room is room


def test_without_a_type_torch_takes_what_suits_the_device(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        device_module, "compute_dtype", lambda precision, device: asked.append(precision) or torch.float32
    )
    open_module._in_torch(open_module.read_weights(folder), torch.device("cpu"), None)
    assert asked == ["auto"]


def test_without_a_gpu_auto_is_the_engine_for_cpus(folder, monkeypatch):
    for worth_asking in (True, False):
        monkeypatch.setattr(open_module, "_may_have_gpu", lambda worth_asking=worth_asking: worth_asking)
        monkeypatch.setattr(device_module, "pick_device", lambda: torch.device("cpu"))
        assert isinstance(load(folder, device="auto").network, CpuNetwork)


def test_signs_of_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(open_module.sys, "platform", "linux")
    monkeypatch.setattr(open_module, "_DRIVERS", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(open_module.shutil, "which", lambda name: None)
    assert not open_module._may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert open_module._may_have_gpu()
    monkeypatch.setattr(open_module, "find_spec", lambda name: None)
    assert not open_module._may_have_gpu()


def test_a_device_of_torch_without_torch_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="needs the package 'torch'"):
        load(folder, device="cuda")


def test_a_loaded_model_at_rest_takes_no_cpu_time(folder):
    model = load(folder, num_threads=2)
    pieces = model.stream(PROMPT, max_new_tokens=20, ignore_eos=True)
    next(pieces)
    time.sleep(0.1)  # workers lose their patience
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03
    assert len("".join(pieces)) > 0


UNCACHED = """
import sys
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []  # as where no folder may be written: "no locator available"
import stentor
print(stentor.load(sys.argv[1], num_threads=2).generate("The people who", max_new_tokens=9))
"""


@pytest.mark.slow
def test_where_nothing_compiled_can_be_kept_the_text_is_the_same(folder):
    done = subprocess.run([sys.executable, "-c", UNCACHED, folder], capture_output=True, text=True, check=True)
    assert done.stdout == load(folder).generate(PROMPT, max_new_tokens=9) + "\n"


@pytest.mark.parametrize("num_threads", [None, 1, 2])
def test_what_is_loaded_has_been_run_so_its_kernels_are_compiled(folder, monkeypatch, num_threads):
    runs = []
    extend = CpuNetwork.extend
    monkeypatch.setattr(
        CpuNetwork, "extend", lambda self, *rest, **more: runs.append(self) or extend(self, *rest, **more)
    )
    model = load(folder, num_threads=num_threads)
    assert runs
    assert all(network is not model.network for network in runs)
