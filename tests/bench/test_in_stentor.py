"""What is timed of our own engine is what it should compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stentor.bench.in_stentor import likeliest, open_engine
from stentor.bench.setting import Setting
from stentor.model.folder import read_model_folder
from stentor.model.quantized import as_float32
from stentor.runtime.cpu import CpuNetwork
from stentor.version import __version__


@pytest.fixture
def network(tiny_weights):
    return CpuNetwork(tiny_weights.config, {name: as_float32(array) for name, array in tiny_weights.arrays.items()})


def test_the_likeliest_token_is_torch_s(network, tiny_folder):
    ids = np.random.default_rng(0).integers(0, 320, 32).tolist()
    with torch.inference_mode():
        expected = read_model_folder(tiny_folder).build()(torch.tensor([ids]))[0].argmax(-1).tolist()
    assert likeliest(network, ids[:20], 0) == expected[19]
    assert [likeliest(network, ids[start : start + 1], start) for start in range(20, 32)] == expected[20:]


def test_a_long_prompt_may_be_read_in_two_halves(network):
    ids = np.random.default_rng(1).integers(0, 320, 30).tolist()
    whole = likeliest(network, ids, 0)
    assert likeliest(network, ids[:10], 0) >= 0
    assert likeliest(network, ids[10:], 10) == whole


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_it_opens_in_all_ways(request_of, dtype, num_threads):
    setting = Setting(engine="stentor", dtype=dtype, cache_dtype=dtype, num_threads=num_threads)
    engine = open_engine(request_of(setting))
    assert engine.prefill([5, 6, 7]) > 0
    assert engine.decode([5, 6, 7], 2) > 0
    assert engine.version == __version__
