"""What a dtype makes of a model's weights; above all, that INT8 ships the very numbers it was trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.export.gguf import export_gguf
from stentor.export.rounding import CALIBRATION_TOKENS, as_trained, calibration_windows, prepared_tensors
from stentor.export.scales import searched
from stentor.export.source import read_source
from stentor.model.fake_quant import fake_quantize, quantize_int8
from stentor.model.folder import build_model, read_model_folder
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.numerics import Numerics
from stentor.model.quantized import Quantized
from stentor.model.weights import read_weights
from stentor.runtime.cpu import CpuNetwork

LAYER = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(params=["llama", "qwen3"])
def source(models, request):
    return read_source(models[request.param], dtype="float32")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    write_file(path, "The quick brown fox jumps over the lazy dog.\n" * 200)
    return str(path)


@pytest.fixture
def shipped(models, tmp_path):
    """Return a function that exports a model in the INT8 of training, and reads it."""

    def run(name):
        path = tmp_path / "int8.gguf"
        assert export_gguf(models[name], path, dtype="int8").proof is not None
        return path

    return run


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_training_and_shipping_differ_by_nothing(models, shipped, name):
    """The forward pass of training, from the masters, against the file's weights: no bit of a logit differs."""
    masters, path = read_model_folder(models[name]), shipped(name)
    trained = build_model(masters.config, masters.tensors, origin="masters")
    trained.numerics = Numerics(fake_quantizes=True)
    ids = torch.randint(0, masters.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))
    read = read_model_folder(path)
    with torch.inference_mode():
        assert torch.equal(trained(ids), read.build()(ids))
        assert not torch.equal(trained(ids), build_model(masters.config, masters.tensors, origin="masters")(ids))


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_the_file_holds_the_integers_and_scales_of_training(models, shipped, name):
    masters, read = read_model_folder(models[name]), read_weights(shipped(name))
    for key, array in read.arrays.items():
        if isinstance(array, Quantized):
            integers, scale = quantize_int8(masters.tensors[key])
            assert array.kind == "Q8_0"
            assert np.array_equal(array.integers().reshape(array.shape), integers.numpy())
            assert (array.blocks["scale"].astype(np.float32) == scale.numpy()).all()
            assert np.array_equal(array.dequantized(), fake_quantize(masters.tensors[key]).numpy())
        else:
            assert np.array_equal(array, masters.tensors[key].numpy()), "all else is as it was trained"
    assert sum(isinstance(array, Quantized) for array in read.arrays.values()) == 14


def test_our_engine_computes_the_same_from_the_file_and_from_what_training_saw(models, shipped):
    masters, read = read_model_folder(models["qwen3"]), read_weights(shipped("qwen3"))
    seen = {
        key: fake_quantize(tensor).numpy() if tensor.ndim == 2 and key != EMBEDDING else tensor.numpy()
        for key, tensor in masters.tensors.items()
    }
    ids = list(range(20))
    for dtype in ("float32", "int8"):
        networks = [CpuNetwork(masters.config, arrays, dtype=dtype) for arrays in (read.arrays, seen)]
        one, other = (network.extend(ids, 0, all_scored=True).copy() for network in networks)
        assert np.array_equal(one, other)


def test_a_row_of_zeros_and_a_tiny_one_are_exact_too():
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    weight[1], weight[2] = 0, weight[2] * 1e-6
    assert np.array_equal(as_trained(weight).dequantized(), fake_quantize(weight).numpy())


@pytest.mark.parametrize("dtype", ["q4_0", "q5_0"])
def test_coarse_blocks_have_searched_scales(source, dtype):
    made = prepared_tensors(source, dtype)[LAYER]
    assert isinstance(made, Quantized)
    assert np.array_equal(made.dequantized(), searched(source.tensors[LAYER].numpy(), dtype).dequantized())


@pytest.mark.parametrize("dtype", ["float16", "q8_0", "q4_1", "float32"])
def test_other_dtypes_leave_the_weights_to_the_writer(source, dtype):
    for name, array in prepared_tensors(source, dtype).items():
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, source.tensors[name].numpy())


def test_a_text_to_calibrate_on_rounds_layers_only(source, text):
    plain, made = prepared_tensors(source, "q4_0"), prepared_tensors(source, "q4_0", calibrate=text)
    for name in made:
        changed = made[name] is not plain[name] and isinstance(made[name], Quantized)
        assert changed == (source.tensors[name].ndim == 2 and name not in (EMBEDDING, HEAD)), name
    assert isinstance(made[EMBEDDING], np.ndarray), "the matrix that makes the logits is Q8_0"


def test_a_calibrated_file_is_proven_as_any_other(models, tmp_path, text):
    report = export_gguf(models["llama"], tmp_path / "m.gguf", dtype="q4_0", calibrate=text)
    assert report.proof is not None
    assert report.proof.stored.mean_kl_nats < 1e-3


def test_windows_are_full_and_bounded(source, text, tmp_path):
    windows = calibration_windows(source.tokenizer, text, 128)
    assert windows.shape[1] == 128
    write_file(tmp_path / "short.txt", "A word.")
    short = calibration_windows(source.tokenizer, str(tmp_path / "short.txt"), 128)
    assert short.shape[0] == 1
    assert 0 < short.shape[1] < 20
    write_file(tmp_path / "long.jsonl", '{"text": "The lazy dog jumps over the fox again and again."}\n' * 20_000)
    assert calibration_windows(source.tokenizer, str(tmp_path / "long.jsonl"), 64).size <= CALIBRATION_TOKENS + 128


def test_what_cannot_be_calibrated_is_refused(source, text, models, tmp_path):
    with pytest.raises(UserError, match="q8_0 is not rounded by a text"):
        prepared_tensors(source, "q8_0", calibrate=text)
    write_file(tmp_path / "empty.txt", "")
    with pytest.raises(UserError, match=r"no text|empty|no document"):
        prepared_tensors(source, "q4_0", calibrate=str(tmp_path / "empty.txt"))
    odd = read_source(models["untied"], dtype="float32")
    for dtype, calibrate in (("q4_0", text), ("int8", None)):
        with pytest.raises(UserError, match="rows of 48 cannot be cut so"):
            prepared_tensors(odd, dtype, calibrate=calibrate)
