"""Our own engine, as a child process measures it."""

from __future__ import annotations

from collections.abc import Sequence

from stentor.bench.engine import Engine, SteppedEngine
from stentor.bench.setting import Request
from stentor.model.weights import read_weights
from stentor.runtime.cpu import CpuNetwork
from stentor.runtime.network import CachedNetwork
from stentor.version import __version__


def open_engine(request: Request) -> Engine:
    """Return the network of a model."""
    model, setting = read_weights(request.path), request.setting
    network = CpuNetwork(
        model.config,
        model.arrays,
        dtype=setting.dtype,
        cache_dtype=setting.cache_dtype,
        num_threads=setting.num_threads,
    )

    def read(token_ids: Sequence[int], start: int) -> int:
        return likeliest(network, token_ids, start)

    return SteppedEngine(read, version=__version__)


def likeliest(network: CachedNetwork, token_ids: Sequence[int], start: int) -> int:
    """Read tokens after those before `start`, and return the likeliest one after the last of them."""
    return int(network.extend(token_ids, start)[-1].argmax())
