"""onnxruntime on our exported graph, as a child process measures it: the way `stentor generate` runs one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from stentor.bench.engine import Engine, SteppedEngine
from stentor.bench.in_stentor import likeliest
from stentor.bench.setting import Request
from stentor.runtime.onnx_network import open_onnx


def open_engine(request: Request) -> Engine:
    """Return the graph of a folder that is called like the data type of its weights."""
    setting = request.setting
    network = open_onnx(Path(request.path) / f"{setting.dtype}.onnx", num_threads=setting.num_threads)

    def read(token_ids: Sequence[int], start: int) -> int:
        return likeliest(network, token_ids, start)

    return SteppedEngine(read, version=version("onnxruntime"))
