"""What is timed of onnxruntime is what the model computes, in both forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stentor.bench.forms import prepared
from stentor.bench.in_onnxruntime import open_engine
from stentor.bench.in_stentor import likeliest
from stentor.bench.setting import Setting
from stentor.model.folder import read_model_folder
from stentor.runtime.onnx_network import open_onnx


@pytest.fixture
def path(tiny_weights):
    with prepared(tiny_weights, ["onnxruntime"]) as found:
        assert found.not_measured == {}
        yield found.paths["onnxruntime"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_it_opens_in_both_forms(path, request_of, dtype):
    setting = Setting(engine="onnxruntime", dtype=dtype, cache_dtype="float32", num_threads=1)
    request = request_of(setting)
    engine = open_engine(type(request)(path=path, setting=setting, work=request.work, token_ids=request.token_ids))
    assert engine.prefill([5, 6, 7]) > 0
    assert engine.decode([5, 6, 7], 2) > 0
    assert engine.version[0].isdigit()


def test_the_likeliest_token_is_torch_s(path, tiny_folder):
    from pathlib import Path

    network = open_onnx(Path(path) / "float32.onnx", num_threads=1)
    ids = np.random.default_rng(0).integers(0, 320, 24).tolist()
    with torch.inference_mode():
        expected = read_model_folder(tiny_folder).build()(torch.tensor([ids]))[0].argmax(-1).tolist()
    assert likeliest(network, ids[:20], 0) == expected[19]
    assert [likeliest(network, ids[start : start + 1], start) for start in range(20, 24)] == expected[20:]
