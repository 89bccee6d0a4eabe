from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from gguf import GGUFReader, TokenType

from stentor.errors import UserError
from stentor.export.gguf_file import gguf_name, gguf_tensors, write_gguf
from stentor.export.quantize import as_stored, dtype_of
from stentor.model.folder import read_model_folder
from stentor.model.quantized import as_float32


@pytest.fixture
def write(models, tokenizer, tmp_path):
    def run(name="llama", dtype="float16"):
        folder = read_model_folder(models[name])
        arrays = {key: tensor.numpy() for key, tensor in folder.tensors.items()}
        path = tmp_path / f"{name}-{dtype}.gguf"
        write_gguf(path, folder.config, arrays, tokenizer, dtype=dtype, name="tiny")
        return path, folder.config, arrays

    return run


def value(reader, key):
    return reader.get_field(key).contents()


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_metadata_is_complete(write, tokenizer, name):
    path, config, _ = write(name, "q8_0")
    reader = GGUFReader(path)
    expected = {
        "general.architecture": config.carrier,
        "general.type": "model",
        "general.name": "tiny",
        "general.file_type": 7,
        "general.quantization_version": 2,
        f"{config.carrier}.vocab_size": config.vocab_size,
        f"{config.carrier}.context_length": 128,
        f"{config.carrier}.embedding_length": 64,
        f"{config.carrier}.feed_forward_length": 96,
        f"{config.carrier}.block_count": 2,
        f"{config.carrier}.attention.head_count": 4,
        f"{config.carrier}.attention.head_count_kv": 2,
        f"{config.carrier}.attention.key_length": config.head_dim,
        f"{config.carrier}.attention.value_length": config.head_dim,
        f"{config.carrier}.rope.dimension_count": config.head_dim,
        f"{config.carrier}.rope.freq_base": 5000.0,
        f"{config.carrier}.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert {key: value(reader, key) for key in expected} == expected


def test_vocabulary_has_every_row_with_its_type(write, tokenizer):
    path, config, _ = write()
    reader = GGUFReader(path)
    tokens, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    assert len(tokens) == len(types) == config.vocab_size > tokenizer.vocab_size
    assert len(set(tokens)) == len(tokens)
    specials = {index for index, kind in enumerate(types) if kind == TokenType.CONTROL}
    assert {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id} <= specials
    unused = list(range(tokenizer.vocab_size, config.vocab_size))
    assert [index for index, kind in enumerate(types) if kind == TokenType.UNUSED] == unused
    assert [tokens[index] for index in unused] == [f"[PAD{index}]" for index in unused]


def test_merges_are_those_of_the_tokenizer(write, tokenizer):
    path, _, _ = write()
    model = json.loads(tokenizer.files()["tokenizer.json"])["model"]
    merges = value(GGUFReader(path), "tokenizer.ggml.merges")
    assert [tuple(merge.split(" ")) for merge in merges] == [tuple(merge) for merge in model["merges"]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0", "q5_0", "q4_0"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_tensors_read_back_as_stored(write, name, dtype):
    from gguf.quants import dequantize

    path, config, arrays = write(name, dtype)
    is_tied = config.tie_word_embeddings
    chosen = {gguf_name(key): dtype_of(key, dtype, is_tied=is_tied, num_layers=2) for key in arrays}
    expected = {key: as_stored(as_float32(array), chosen[key]) for key, array in gguf_tensors(config, arrays)}
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    assert set(stored) == set(expected)
    assert ("output.weight" in stored) == (name == "untied")
    for key, tensor in stored.items():
        read = dequantize(tensor.data, tensor.tensor_type).reshape(expected[key].shape)
        assert np.array_equal(read, expected[key]), key


def test_llama_rows_are_interleaved_by_definition(write):
    _, config, arrays = write("llama")
    written = {key: as_float32(array) for key, array in gguf_tensors(config, arrays)}
    half = config.head_dim // 2
    for source, target, heads in (("q", "attn_q", 4), ("k", "attn_k", 2)):
        original = arrays[f"model.layers.1.self_attn.{source}_proj.weight"]
        for head in range(heads):
            for i in range(half):
                base = head * config.head_dim
                assert np.array_equal(written[f"blk.1.{target}.weight"][base + 2 * i], original[base + i])
                assert np.array_equal(written[f"blk.1.{target}.weight"][base + 2 * i + 1], original[base + i + half])
    assert written["blk.1.attn_v.weight"] is arrays["model.layers.1.self_attn.v_proj.weight"]


def test_qwen3_rows_are_left_as_they_are(write):
    _, config, arrays = write("qwen3")
    for key, array in gguf_tensors(config, arrays):
        assert any(array is original for original in arrays.values()), key


def test_names():
    assert gguf_name("model.embed_tokens.weight") == "token_embd.weight"
    assert gguf_name("model.norm.weight") == "output_norm.weight"
    assert gguf_name("lm_head.weight") == "output.weight"
    assert gguf_name("model.layers.11.post_attention_layernorm.weight") == "blk.11.ffn_norm.weight"
    assert gguf_name("model.layers.0.self_attn.q_norm.weight") == "blk.0.attn_q_norm.weight"


def test_same_model_gives_the_same_bytes(write):
    first = hashlib.sha256(write()[0].read_bytes()).hexdigest()
    assert hashlib.sha256(write()[0].read_bytes()).hexdigest() == first


def test_a_tied_head_that_is_present_is_left_out(write):
    _, config, arrays = write("llama")
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
    assert "output.weight" not in dict(gguf_tensors(config, arrays))


def test_a_tokenizer_with_other_words_is_refused(write, tokenizer, tmp_path):
    class Gpt2Words:
        def files(self):
            description = json.loads(tokenizer.files()["tokenizer.json"])
            description["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
            return {"tokenizer.json": json.dumps(description).encode()}

    _, config, arrays = write()
    with pytest.raises(UserError, match="cuts words in another way than Llama 3's"):
        write_gguf(tmp_path / "x.gguf", config, arrays, Gpt2Words(), dtype="float16", name="x")  # pyright: ignore[reportArgumentType]
