"""The torch-free door: the same arrays as torch's, on a machine that has neither torch nor transformers."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.model.folder import read_model_folder
from stentor.model.quantized import as_float32
from stentor.model.weights import read_weights

NOT_IN_THE_BASE_INSTALL = ["torch", "transformers", "gguf", "huggingface_hub", "xllamacpp"]
READ_WITHOUT = """
import json, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None  # importing it raises ImportError
from stentor.model.weights import read_weights
read = read_weights(sys.argv[2])
total = sum(float(abs(array).sum()) for array in read.arrays.values())
print(json.dumps([len(read.arrays), total, read.require_tokenizer().encode("the people")]))
"""


def test_importing_it_imports_neither_torch_nor_transformers():
    program = "import sys, stentor.model.weights; print(sorted(sys.modules.keys() & {'torch', 'transformers', 'gguf'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_is_read_with_the_base_install_alone(model_dir, tiny_tokenizer, tensors_of, tiny_config):
    arguments = [json.dumps(NOT_IN_THE_BASE_INSTALL), model_dir]
    done = subprocess.run([sys.executable, "-c", READ_WITHOUT, *arguments], capture_output=True, text=True, check=True)
    num_arrays, total, ids = json.loads(done.stdout)
    written = tensors_of(tiny_config)
    assert num_arrays == len(written)
    assert total == pytest.approx(sum(tensor.abs().sum().item() for tensor in written.values()), rel=1e-4)
    assert ids == tiny_tokenizer.encode("the people")


def test_arrays_are_torchs_tensors(model_dir):
    plain, folder = read_weights(model_dir), read_model_folder(model_dir)
    assert plain.config == folder.config
    assert plain.origin == folder.path
    assert plain.arrays.keys() == folder.tensors.keys()
    for name, array in plain.arrays.items():
        assert torch.equal(torch.from_numpy(np.asarray(array)), folder.tensors[name])


def test_a_folder_without_a_tokenizer_says_so_when_text_is_needed(model_dir):
    (model_dir / "tokenizer.json").unlink()
    read = read_weights(model_dir)
    assert read.tokenizer is None
    with pytest.raises(UserError, match=r"has no tokenizer\.json or tokenmonster\.vocab"):
        read.require_tokenizer()


# --- a .gguf file ---


def test_a_gguf_file_is_read_with_the_base_install_alone(write_model_gguf, tiny_tokenizer):
    program = READ_WITHOUT.replace("abs(array)", "abs(array if hasattr(array, 'sum') else array.dequantized())")
    path = write_model_gguf()
    arguments = [json.dumps(NOT_IN_THE_BASE_INSTALL), path]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    num_arrays, total, ids = json.loads(done.stdout)
    expected = read_model_folder(path).tensors
    assert num_arrays == len(expected)
    assert total == pytest.approx(sum(tensor.abs().sum().item() for tensor in expected.values()), rel=1e-4)
    assert ids == tiny_tokenizer.encode("the people")


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
def test_a_gguf_file_is_the_same_model_for_torch(write_model_gguf, dtype):
    path = write_model_gguf(dtype=dtype)
    plain, folder = read_weights(path), read_model_folder(path)
    assert plain.origin == folder.path == path
    assert plain.config == folder.config
    for name, array in plain.arrays.items():
        values = as_float32(array)
        tensor = folder.tensors[name]
        assert np.array_equal(values, tensor.numpy())
        tensor += 1  # memory of its own, which training may write
        assert not np.array_equal(values, tensor.numpy())


def test_a_folder_with_a_model_gguf_stands_for_it(write_model_gguf):
    path = write_model_gguf(name="model.gguf")
    assert read_weights(path.parent).origin == path


def test_a_vocabulary_larger_than_the_embedding_is_refused(write_model_gguf, tiny_tokenizer):
    path = write_model_gguf(name="a.gguf")
    raw = path.read_bytes()
    rows = struct.pack("<QQI", 32, 384, 8)
    assert raw.count(rows) == 1
    write_file(path, raw.replace(rows, struct.pack("<QQI", 32, 256, 8)))
    with pytest.raises(UserError, match=r"tokenizer has 320 tokens but the model in .*a\.gguf expects at most 256"):
        read_weights(path)
