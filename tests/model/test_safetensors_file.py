"""Plain weights of every kind become the float32 arrays that torch makes of them, to the bit, without torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.safetensors_file import bfloat16_to_float32, read_safetensors


@pytest.fixture
def write(tmp_path, tiny_config, tensors_of):
    """Return a function that writes a model in some type and gives the file and what torch reads from it."""

    def run(dtype=torch.float32, **changes):
        tensors = {name: tensor.to(dtype) for name, tensor in tensors_of(tiny_config).items()}
        path = tmp_path / "model.safetensors"
        save_file({**tensors, **changes}, path)
        return path, load_file(path)

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_plain_type_is_read_as_torch_reads_it(write, tiny_config, dtype):
    path, theirs = write(dtype)
    arrays = read_safetensors(path, tiny_config)
    assert arrays.keys() == theirs.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.flags.writeable
        assert np.array_equal(array.view(np.uint32), theirs[name].float().numpy().view(np.uint32)), name


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=50))
def test_bfloat16_is_read_by_its_bits(bits):
    ours = bfloat16_to_float32(np.array(bits, dtype=np.uint16))
    theirs = torch.tensor(bits, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).float().numpy()
    assert np.array_equal(ours.view(np.uint32) & 0xFFC00000, theirs.view(np.uint32) & 0xFFC00000)
    assert np.array_equal(ours, theirs, equal_nan=True)


def test_what_is_read_stays_when_the_file_goes(write, tiny_config):
    path, theirs = write()
    arrays = read_safetensors(path, tiny_config)
    write_file(path, bytes(path.stat().st_size))
    assert np.array_equal(arrays[EMBEDDING], theirs[EMBEDDING].numpy())


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(write, tiny_config):
    path, theirs = write()
    save_file({**theirs, HEAD: theirs[EMBEDDING].clone()}, path)
    assert HEAD in read_safetensors(path, tiny_config)
    save_file({**theirs, HEAD: theirs[EMBEDDING] + 1}, path)
    with pytest.raises(UserError, match="differs from the embedding although its config"):
        read_safetensors(path, tiny_config)
    save_file({**theirs, HEAD: theirs[EMBEDDING][:5].clone()}, path)
    with pytest.raises(UserError, match=r"lm_head\.weight has shape \(5, 32\), its config\.json demands \(384, 32\)"):
        read_safetensors(path, tiny_config)


def test_metadata_and_a_header_without_it_are_both_read(write, tiny_config):
    path, theirs = write()
    save_file(theirs, path, metadata={"format": "pt"})
    assert read_safetensors(path, tiny_config).keys() == theirs.keys()


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_as_torch_reads_it(data, tmp_path_factory, tiny_config, tensors_of):
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    save_file(tensors_of(tiny_config), path)
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little") + 8
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, length))] = data.draw(st.integers(0, 255))
    write_file(path, bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) - 1, length]))]))
    try:
        arrays = read_safetensors(path, tiny_config)
    except UserError:
        return
    theirs = load_file(path)
    assert all(np.array_equal(array, theirs[name].float().numpy()) for name, array in arrays.items())


def test_a_header_that_lies_about_a_shape_is_refused(write, tiny_config):
    path, _ = write()
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header[EMBEDDING]["shape"] = [1 << 40, 1 << 20]
    encoded = json.dumps(header).encode()
    write_file(path, len(encoded).to_bytes(8, "little") + encoded + raw[8 + length :])
    with pytest.raises(UserError, match="is damaged"):
        read_safetensors(path, tiny_config)
