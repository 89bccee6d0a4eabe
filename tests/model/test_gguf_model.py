"""A GGUF file of ours, or of llama.cpp's converter, comes back as the model it was made from."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.export.gguf_file import write_gguf
from stentor.export.quantize import as_stored, dtype_of
from stentor.model import gguf_model
from stentor.model.folder import read_model_folder
from stentor.model.gguf_model import read_gguf_model
from stentor.model.quantized import Quantized, as_float32


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("key_value_heads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0", "q5_0", "q4_0"])
def test_there_and_back(
    write_model_gguf, tiny_config, tiny_tokenizer, strong_tensors, carrier, tied, key_value_heads, dtype
):
    sizes = {"carrier": carrier, "tie_word_embeddings": tied, "num_key_value_heads": key_value_heads}
    path = write_model_gguf(dtype=dtype, rope_theta=5000.0, rms_norm_eps=1e-6, **sizes)
    config, arrays, tokenizer = read_gguf_model(path)
    assert config == dataclasses.replace(tiny_config, rope_theta=5000.0, rms_norm_eps=1e-6, **sizes)
    assert tokenizer.sha256 == tiny_tokenizer.sha256
    written = strong_tensors(config)
    assert arrays.keys() == written.keys()
    for name, array in arrays.items():
        assert array.shape == written[name].shape
        chosen = dtype_of(name, dtype, is_tied=tied, num_layers=2)
        assert np.array_equal(as_float32(array), as_stored(written[name], chosen)), name
        assert isinstance(array, Quantized) == (len(array.shape) == 2 and dtype.startswith("q"))


def test_heads_wider_than_their_share_of_the_model_are_read(write_model_gguf, strong_tensors):
    config, arrays, _ = read_gguf_model(write_model_gguf(dtype="float32", head_dim=32, hidden_size=48))
    assert config.head_dim == 32
    written = strong_tensors(config)
    assert all(np.array_equal(as_float32(array), written[name]) for name, array in arrays.items())


def test_a_matrix_that_fits_no_blocks_is_read_beside_those_that_do(write_model_gguf, strong_tensors):
    config, arrays, _ = read_gguf_model(write_model_gguf(hidden_size=48))
    kinds = {name.rsplit(".", 2)[-2]: type(array) for name, array in arrays.items()}
    assert kinds["down_proj"] is Quantized
    assert kinds["up_proj"] is np.ndarray
    written = strong_tensors(config)
    assert all(np.array_equal(as_float32(array), as_stored(written[name], "q8_0")) for name, array in arrays.items())


def test_blocks_of_a_qwen3_are_the_files_own(write_model_gguf):
    _, arrays, _ = read_gguf_model(write_model_gguf(carrier="qwen3"))
    query = arrays["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(query, Quantized)
    assert not query.blocks.flags.owndata
    assert not query.blocks.flags.writeable


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
def test_the_network_computes_the_same_from_either_file(write_model_gguf, strong_tensors, carrier):
    folder = read_model_folder(write_model_gguf(carrier=carrier, dtype="float32"))
    ids = torch.arange(20)[None]
    tensors = {name: torch.from_numpy(array) for name, array in strong_tensors(folder.config).items()}
    with torch.no_grad():
        from_file = folder.build()(ids)
        assert torch.equal(from_file, dataclasses.replace(folder, tensors=tensors).build()(ids))


# --- files of others, rewritten from ours with one thing changed ---


@pytest.fixture
def rewrite(write_model_gguf, tmp_path):
    """Return a function that writes our file again with other metadata or tensors."""

    def run(metadata=None, tensors=None, architecture="llama", **sizes):
        reader = GGUFReader(write_model_gguf(dtype="float32", **sizes))
        path = tmp_path / "changed.gguf"
        writer = GGUFWriter(path, architecture)
        stored = {key: field for key, field in reader.fields.items() if not key.startswith(("GGUF.", "general.arch"))}
        for key, field in stored.items():
            if key not in (metadata or {}):
                writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
        for key, value in (metadata or {}).items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
            if value is not None:
                add[type(value)](key, value)
        changed = {tensor.name: np.array(tensor.data) for tensor in reader.tensors} | (tensors or {})
        for name, values in changed.items():
            if values is not None:
                writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return run


def test_what_may_be_left_out_has_llama_cpps_defaults(rewrite, tiny_config):
    left_out = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count")
    gone = {f"llama.{key}": None for key in (*left_out, "rope.freq_base", "vocab_size")}
    config, _, _ = read_gguf_model(rewrite({**gone, "llama.rope.scaling.type": "none"}, num_key_value_heads=2))
    assert config == tiny_config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"llama.block_count": None}, r"does not say its llama\.block_count"),
        ({"llama.context_length": None}, r"does not say its llama\.context_length"),
        ({"llama.embedding_length": "32"}, r"has a llama\.embedding_length that is not a whole number"),
        ({"llama.feed_forward_length": 64.0}, "feed_forward_length that is not a whole number"),
        ({"llama.attention.head_count_kv": [1, 1]}, "head_count_kv that is not a whole number"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "does not say its .*rms_epsilon"),
        ({"llama.attention.layer_norm_rms_epsilon": 0.0}, r"model\.rms_norm_eps is 0\.0"),
        ({"llama.rope.freq_base": float("nan")}, r"model\.rope_theta is nan"),
        ({"llama.attention.head_count": 0}, "num_attention_heads is 0"),
        ({"llama.block_count": 1 << 31}, "too few for the 2147483648 layers of its metadata"),
        ({"llama.block_count": 1}, r"does not match its metadata: missing nothing; unexpected model\.layers\.1"),
        ({"llama.block_count": 3}, r"missing model\.layers\.2"),
        ({"llama.embedding_length": 64}, r"has shape \(\d+, 32\), its metadata demands \(\d+, 64\)"),
        ({"llama.feed_forward_length": 65}, r"metadata demands \(65, 32\)"),
        ({"llama.attention.key_length": 15}, "has llama.attention.value_length 16, and heads of 15"),
        ({"llama.rope.dimension_count": 8}, "has llama.rope.dimension_count 8, and heads of 16"),
        ({"llama.rope.scaling.type": "yarn"}, r"has llama\.rope\.scaling\.type 'yarn'"),
        ({"llama.rope.scaling.factor": 4.0}, r"has llama\.rope\.scaling\.factor 4\.0"),
        ({"llama.expert_count": 8}, "has llama.expert_count 8"),
        ({"llama.attention.sliding_window": [1, 2]}, "has llama.attention.sliding_window"),
        ({"llama.context_length": 1 << 30}, "max_position_embeddings is 1073741824"),
    ],
)
def test_metadata_that_are_not_this_model_are_refused(rewrite, changes, said):
    with pytest.raises(UserError, match=said) as caught:
        read_gguf_model(rewrite(changes))
    assert caught.value.fix


def test_another_architecture_is_refused(rewrite):
    with pytest.raises(UserError, match="holds a 'gpt2' model"):
        read_gguf_model(rewrite(architecture="gpt2"))


def test_the_architecture_must_be_said(tmp_path):
    write_file(tmp_path / "x.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    with pytest.raises(UserError, match=r"does not say its general\.architecture"):
        read_gguf_model(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"token_embd.weight": None}, r"has no token_embd\.weight"),
        ({"blk.1.attn_v.weight": None}, r"missing model\.layers\.1\.self_attn\.v_proj\.weight"),
        ({"rope_freqs.weight": np.ones(8, np.float32)}, r"unexpected 'rope_freqs\.weight'"),
        ({"blk.0.attn_q.bias": np.ones(32, np.float32)}, r"unexpected 'blk\.0\.attn_q\.bias'"),
        ({"model.norm.weight": np.ones(32, np.float32)}, r"unexpected 'model\.norm\.weight'"),
        ({"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}, r"unexpected model\.layers\.0\.self_attn\.q_norm"),
        ({"blk.0.attn_q.weight": np.ones((16, 64), np.float32)}, r"q_proj\.weight has shape \(16, 64\)"),
        ({"output_norm.weight": np.full(32, np.nan, np.float32)}, r"output_norm\.weight holds NaN"),
    ],
)
def test_tensors_that_are_not_this_model_are_refused(rewrite, tensors, said):
    with pytest.raises(UserError, match=said) as caught:
        read_gguf_model(rewrite(tensors=tensors))
    assert caught.value.fix


def test_without_the_row_order_a_llama_would_be_wrong(write_model_gguf, strong_tensors, monkeypatch):
    path = write_model_gguf(dtype="float32")
    monkeypatch.setattr(gguf_model, "row_order", lambda name, config: None)
    config, arrays, _ = read_gguf_model(path)
    query = "model.layers.0.self_attn.q_proj.weight"
    assert not np.array_equal(as_float32(arrays[query]), strong_tensors(config)[query])


# --- anything at all ---

TOKENIZER_BYTES = 500_000
"""What a small vocabulary takes once it is a tokenizer, whatever the size of the file."""


@pytest.fixture(scope="module")
def one_model(tmp_path_factory, tiny_config, tiny_tokenizer, strong_tensors):
    path = tmp_path_factory.mktemp("damaged") / "m.gguf"
    write_gguf(path, tiny_config, strong_tensors(tiny_config), tiny_tokenizer, dtype="float16", name="tiny")
    read_gguf_model(path)  # what is imported on the way is not counted below
    raw = path.read_bytes()
    return path, raw, raw.index(b"output_norm.weight")


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_model_is_refused_or_a_whole_model(data, one_model):
    path, raw, end_of_metadata = one_model
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, end_of_metadata) | st.integers(0, 1200))
        change = data.draw(st.binary(min_size=1, max_size=8))
        if data.draw(st.booleans()):
            damaged[at : at + len(change)] = change
        else:
            damaged[at] ^= change[0]
    write_file(path, bytes(damaged))
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            config, arrays, tokenizer = read_gguf_model(path)
            assert all(np.isfinite(as_float32(array)).all() for array in arrays.values())
            assert len(arrays) == 2 + 9 * config.num_hidden_layers
            tokenizer.decode(tokenizer.encode("some text"))
        assert tracemalloc.get_traced_memory()[1] < 4 * len(raw) + TOKENIZER_BYTES
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 2
