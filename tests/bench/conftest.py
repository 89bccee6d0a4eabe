"""A tiny model on disk, and measurements that were never taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stentor.artifacts import staged_directory
from stentor.bench.setting import Measurement, Request, Setting, Work
from stentor.model.folder import write_model_folder
from stentor.model.names import expected_shapes
from stentor.model.weights import Weights, read_weights

TINY_WORK = Work(prompt_lengths=(4, 9), positions=(4, 12), num_new_tokens=3, repeats=2)


@pytest.fixture(scope="session")
def tiny_tensors(tiny_config) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = expected_shapes(tiny_config).items()
    return {name: 0.2 * torch.randn(shape, generator=generator) + (len(shape) == 1) for name, shape in shapes}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_config, tiny_tokenizer, tiny_tensors) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "model"
    with staged_directory(folder, kind="model") as staging:
        write_model_folder(staging, tiny_config, tiny_tensors, tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tiny_folder) -> Weights:
    return read_weights(tiny_folder)


@pytest.fixture
def request_of(tiny_folder) -> Callable[..., Request]:
    """Return a function that makes a request for the tiny model."""

    def make(setting: Setting, work: Work = TINY_WORK, path: Path = tiny_folder) -> Request:
        return Request(path=str(path), setting=setting, work=work, token_ids=list(range(3, 3 + work.num_tokens)))

    return make


class FakeClock:
    """A clock that goes on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def measurement(decode_ms: float = 1.0, **changes) -> Measurement:
    values = {
        "cold_start_seconds": 0.5,
        "prefill_seconds": {4: 0.001, 9: 0.002},
        "decode_seconds": {4: decode_ms / 1e3, 12: 2 * decode_ms / 1e3},
        "peak_bytes": 80_000_000,
        "version": "1.2.3",
    }
    return Measurement(**{**values, **changes})


@pytest.fixture
def made_up() -> Callable[..., Measurement]:
    return measurement


@pytest.fixture
def no_processes(monkeypatch) -> list[Request]:
    """Let nothing be measured: return the requests, each of which was answered with made-up numbers."""
    asked: list[Request] = []

    def measure_once(request: Request) -> Measurement:
        asked.append(request)
        slowness = {"stentor": 1.0, "transformers": 50.0}.get(request.setting.engine, 8.0) + 0.1 * len(asked)
        work = request.work
        return measurement(
            prefill_seconds={length: slowness * length / 1e5 for length in work.prompt_lengths},
            decode_seconds=dict.fromkeys(work.positions, slowness / 1000.0),
        )

    monkeypatch.setattr("stentor.bench.measure.measure_once", measure_once)
    monkeypatch.setattr("stentor.bench.measure.read_bytes_per_second", lambda num_bytes, threads: 1e9 * threads)
    return asked
