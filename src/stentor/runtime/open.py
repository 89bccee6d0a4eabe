"""A model on disk becomes a network that computes: on the CPU's own engine, or in torch for a GPU."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stentor.errors import MissingDependencyError, UserError, missing_extra, nearest_name
from stentor.model.locate import find_onnx
from stentor.model.weights import Weights, read_weights, require_matching, required_tokenizer
from stentor.runtime.cores import fastest_num_threads, usable_cores
from stentor.runtime.cpu import CpuNetwork
from stentor.runtime.dtypes import CACHE_DTYPES, DEFAULT_DTYPE, DEVICES, DTYPES, GPU_DTYPES
from stentor.runtime.network import CachedNetwork
from stentor.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

TRANSFORMERS = "transformers:"
"""Before the name of a model: it is opened with transformers, whatever its architecture."""
_BOTH_WAYS = ((GPU_DTYPES, DTYPES), (DTYPES, GPU_DTYPES))
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")


class Opened(NamedTuple):
    """A network, its tokenizer, and where both were read."""

    network: CachedNetwork
    tokenizer: Tokenizer
    origin: Path


def exact_dtype(path_or_id: str | Path) -> str | None:
    """Return the dtype to ask for where weights are not to be rounded; None where the file decides, as in a graph."""
    return "float32" if find_onnx(path_or_id) is None else None


def open_network(
    path_or_id: str | Path,
    *,
    dtype: str | None,
    cache_dtype: str,
    num_threads: int | None,
    device: str,
    on_compiling: Callable[[], None] | None = None,
) -> Opened:
    """Read a model and make it ready to compute; arguments and errors as in `engine.load`.

    `on_compiling` is called before the CPU's own engine is made ready, which on its first use here takes long.
    """
    for name, value, known in (
        ("dtype", dtype or DEFAULT_DTYPE, dict.fromkeys((*DTYPES, *GPU_DTYPES))),
        ("cache_dtype", cache_dtype, CACHE_DTYPES),
        ("device", device, DEVICES),
    ):
        if value not in known:
            raise UserError(f"there is no {name} {value!r}", fix=nearest_name(value, known))
    if num_threads is not None and num_threads < 1:
        raise UserError(f"num_threads is {num_threads}", fix="use one thread or more")
    if str(path_or_id).startswith(TRANSFORMERS):
        return _in_transformers(str(path_or_id).removeprefix(TRANSFORMERS), device)
    if onnx := find_onnx(path_or_id):
        return _in_onnxruntime(onnx, dtype=dtype, num_threads=num_threads, device=device)
    chosen = _device_for(dtype, device)
    read = read_weights(path_or_id)
    tokenizer = read.require_tokenizer()
    if chosen is None:
        if on_compiling:
            on_compiling()
        network = _on_cpu(read, dtype=dtype or DEFAULT_DTYPE, cache_dtype=cache_dtype, num_threads=num_threads)
    else:
        network = _in_torch(read, chosen, dtype)
    return Opened(network, tokenizer, read.origin)


def _device_for(dtype: str | None, device: str) -> torch.device | None:
    """Return where a type can be computed in; None for the CPU's own engine.

    Raises:
        UserError: the device that was named has no such type.
        MissingDependencyError: there is no such device.
    """
    only_on_gpu, only_on_cpu = (dtype in mine and dtype not in other for mine, other in _BOTH_WAYS)
    if device == "cpu" and only_on_gpu:
        raise UserError(
            f"a CPU does not compute in {dtype} here", fix=f"use --dtype {' or '.join(DTYPES)}, or --device auto"
        )
    if device not in ("cpu", "auto") and only_on_cpu:
        raise UserError(
            f"a GPU does not compute in {dtype} here", fix=f"use --dtype {' or '.join(GPU_DTYPES)}, or --device cpu"
        )
    chosen = None if device == "auto" and only_on_cpu else _torch_device(device)
    if chosen is None and only_on_gpu:
        raise MissingDependencyError(
            f"{dtype} is for a GPU, and none is found here", fix=f"use --dtype {' or '.join(DTYPES)}"
        )
    return chosen


def _on_cpu(read: Weights, *, dtype: str, cache_dtype: str, num_threads: int | None) -> CachedNetwork:
    network = CpuNetwork(
        read.config,
        read.arrays,
        dtype=dtype,
        cache_dtype=cache_dtype,
        num_threads=num_threads or 1,
        max_threads=num_threads or max(1, int(usable_cores())),
    )
    if num_threads is None:
        return network.fresh(num_threads=fastest_num_threads(network))
    network.fresh().extend([0], 0)  # a loaded model is a compiled one: who waits, waits here
    return network


def _in_torch(read: Weights, device: torch.device, dtype: str | None) -> CachedNetwork:
    from stentor.model.device import compute_dtype
    from stentor.model.folder import as_folder
    from stentor.model.numerics import Numerics
    from stentor.runtime.torch_network import TorchNetwork

    model = as_folder(read).build(device)
    model.numerics = Numerics(compute_dtype=compute_dtype(dtype or "auto", device))
    network = TorchNetwork(model)
    network.fresh().extend([0], 0)  # what reads a token is then compiled and recorded: see _on_cpu
    return network


def _in_transformers(path_or_id: str, device: str) -> Opened:
    from stentor.runtime.transformers_network import open_transformers
    from stentor.tokenizer.transformers_tokenizer import open_transformers_tokenizer

    network = open_transformers(path_or_id, device=str(_torch_device(device) or "cpu"))
    tokenizer = open_transformers_tokenizer(path_or_id)
    require_matching(tokenizer, network.config, origin=path_or_id)
    return Opened(network, tokenizer, Path(path_or_id))


def _in_onnxruntime(path: Path, *, dtype: str | None, num_threads: int | None, device: str) -> Opened:
    from stentor.runtime.onnx_network import onnx_folder, open_onnx

    if device not in ("cpu", "auto"):
        raise UserError(f"an ONNX model computes on the CPU here, not on {device}", fix="leave --device out")
    if dtype is not None:
        raise UserError(
            f"{path} computes in the dtype that it was exported with, not in one that is asked for ({dtype})",
            fix="leave --dtype out, and name the file: an export has model.onnx in float32 and model_quantized.onnx in "
            "INT8",
        )
    network, folder = open_onnx(path, num_threads=num_threads), onnx_folder(path)
    tokenizer = required_tokenizer(Tokenizer.load(folder) if Tokenizer.is_in(folder) else None, folder)
    require_matching(tokenizer, network.config, origin=str(path))
    return Opened(network, tokenizer, path)


def _torch_device(name: str) -> torch.device | None:
    """Return the device that torch is to compute on; None for the CPU, where it is not even imported."""
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return None
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "train", needed_for=f"the device {name}") from None
    from stentor.model.device import pick_device

    found = pick_device()
    if name not in ("auto", found.type):
        raise MissingDependencyError(
            f"torch finds no device {name} here", fix="use --device cpu, or see stentor doctor"
        )
    return None if found.type == "cpu" else torch.device(found)


def _may_have_gpu() -> bool:
    """Tell whether it is worth asking torch for a GPU, which takes a second."""
    if find_spec("torch") is None:
        return False
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(driver).exists() for driver in _DRIVERS) or shutil.which("nvidia-smi") is not None
