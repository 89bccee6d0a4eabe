"""The model folder: opened by stock transformers, read back bit for bit, refused when anything is off."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stentor.artifacts import MANIFEST_NAME, staged_directory, write_file
from stentor.errors import CorruptArtifactError, UserError
from stentor.model.folder import parse_config, read_model_folder, write_model_folder
from stentor.model.names import HEAD

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("carrier", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_stock_transformers_opens_it(tmp_path, tiny_config, tiny_tokenizer, carrier, tied, tensors_of):
    config = dataclasses.replace(tiny_config, carrier=carrier, tie_word_embeddings=tied, rope_theta=50_000.0)
    tensors = tensors_of(config)
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, config, tensors, tiny_tokenizer)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    theirs, report = loaded
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "The people who were there."
    ids = tokenizer(text)["input_ids"]
    assert ids == tiny_tokenizer.encode(text)
    ours = read_model_folder(tmp_path / "model").build()
    with torch.no_grad():
        torch.testing.assert_close(ours(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, atol=1e-5, rtol=0)
    assert theirs.config.eos_token_id == tiny_tokenizer.eos_token_id


def test_read_back_bit_for_bit(model_dir, tiny_config, tiny_tokenizer, tensors_of):
    read = read_model_folder(model_dir)
    assert read.config == tiny_config
    assert read.require_tokenizer().sha256 == tiny_tokenizer.sha256
    written = tensors_of(tiny_config)
    assert read.tensors.keys() == written.keys()
    assert all(torch.equal(read.tensors[name], written[name]) for name in written)


def test_half_precision_is_stored_and_read_as_float32(tmp_path, tiny_config, tiny_tokenizer, tensors_of):
    with staged_directory(tmp_path / "half", kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors_of(tiny_config), tiny_tokenizer, dtype=torch.float16)
    assert load_file(tmp_path / "half" / "model.safetensors")[UP].dtype == torch.float16
    assert json.loads((tmp_path / "half" / "config.json").read_bytes())["torch_dtype"] == "float16"
    assert read_model_folder(tmp_path / "half").tensors[UP].dtype == torch.float32


def test_the_same_model_gives_the_same_bytes(tmp_path, tiny_config, tiny_tokenizer, tensors_of):
    for name in ("a", "b"):
        with staged_directory(tmp_path / name, kind="model") as staging:
            write_model_folder(staging, tiny_config, tensors_of(tiny_config), tiny_tokenizer)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_tied_head_is_stored_once(model_dir):
    assert HEAD not in load_file(model_dir / "model.safetensors")


def edit_config(model_dir, **changes) -> None:
    """Change settings as a user may in a folder that no checksum covers."""
    (model_dir / MANIFEST_NAME).unlink(missing_ok=True)
    raw = json.loads((model_dir / "config.json").read_bytes())
    write_file(model_dir / "config.json", json.dumps({k: v for k, v in {**raw, **changes}.items() if v != "absent"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "'gpt2' model"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"mlp_bias": True}, "mlp_bias True"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3"}}, "rope_type 'llama3'"),
        ({"rope_scaling": {"rope_type": "linear"}, "rope_parameters": "absent"}, "rope_scaling 'linear'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling 'dynamic'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ({"vocab_size": 320.5}, "320.5 is not a whole number"),
        ({"num_attention_heads": 0, "head_dim": "absent"}, "not a whole config.json"),
        ({"num_hidden_layers": 10**9}, "too few for the 1000000000 layers"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000"),
        ({"hidden_size": "absent"}, "not a whole config.json"),
        ({"hidden_size": "wide"}, "not a whole config.json"),
        ({"num_hidden_layers": 3}, "missing model.layers.2"),
        ({"num_hidden_layers": 1}, "unexpected model.layers.1"),
        ({"intermediate_size": 65}, "demands (65, 32)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_a_config_that_is_not_this_model_is_refused(model_dir, changes, message):
    edit_config(model_dir, **changes)
    with pytest.raises(UserError) as caught:
        read_model_folder(model_dir)
    assert message in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_was_altered_since_it_was_sealed_is_refused(model_dir, name):
    path = model_dir / name
    data = path.read_bytes()
    changed = (
        data.replace(b'"rope_theta": 10000.0', b'"rope_theta": 10001.0')
        if name == "config.json"
        else data[:-2] + b"\0\0"
    )
    assert len(changed) == len(data)
    write_file(path, changed)
    with pytest.raises(CorruptArtifactError, match=rf"{name} does not match its checksum") as caught:
        read_model_folder(model_dir)
    assert "remove manifest.json" in caught.value.fix
    (model_dir / MANIFEST_NAME).unlink()
    read_model_folder(model_dir)


def test_a_key_that_stands_twice_is_refused(model_dir):
    path = model_dir / "config.json"
    write_file(path, path.read_bytes().replace(b'"use_cache": true', b'"vocab_size": 384, "use_cache": true'))
    with pytest.raises(UserError, match=r"config\.json is not a whole config\.json .*'vocab_size' stands twice"):
        read_model_folder(model_dir)


def test_a_config_nested_too_deeply_is_refused(model_dir):
    write_file(model_dir / "config.json", "[" * 100_000)
    with pytest.raises(UserError, match=r"not a whole config\.json"):
        read_model_folder(model_dir)


def test_older_spellings_are_read(model_dir, tiny_config):
    edit_config(model_dir, rope_parameters="absent", rope_theta=5e5, head_dim="absent", num_key_value_heads="absent")
    assert parse_config(model_dir / "config.json") == dataclasses.replace(tiny_config, rope_theta=5e5)


def edit_tensors(model_dir, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(model_dir / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, model_dir / "model.safetensors")


def test_nan_weights_are_refused_by_name(model_dir):
    weights = load_file(model_dir / "model.safetensors")[UP]
    weights[3, 4] = float("nan")
    edit_tensors(model_dir, **{UP: weights})
    with pytest.raises(UserError, match=r"up_proj\.weight holds NaN"):
        read_model_folder(model_dir)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn])
def test_tensors_that_are_no_plain_weights_are_refused(model_dir, dtype):
    edit_tensors(model_dir, **{UP: load_file(model_dir / "model.safetensors")[UP].to(dtype)})
    with pytest.raises(UserError, match=r"up_proj\.weight holds \w+, not plain weights"):
        read_model_folder(model_dir)


def test_weights_beyond_float32_are_refused(model_dir):
    weights = load_file(model_dir / "model.safetensors")[UP].double()
    edit_tensors(model_dir, **{UP: weights * 1e300})
    with pytest.raises(UserError, match=r"up_proj\.weight holds NaN or infinity"):
        read_model_folder(model_dir)


def test_a_missing_tensor_is_refused_by_name(model_dir):
    edit_tensors(model_dir, **{UP: None})
    with pytest.raises(UserError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight"):
        read_model_folder(model_dir)


@pytest.mark.parametrize("keep", [0, 7, 60, 5000])
def test_truncated_weights_are_refused(model_dir, keep):
    path = model_dir / "model.safetensors"
    write_file(path, path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is damaged"):
        read_model_folder(model_dir)


def test_no_weights_are_refused(model_dir):
    (model_dir / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        read_model_folder(model_dir)


def test_a_tokenizer_of_another_model_is_refused(model_dir, tiny_config, tensors_of):
    small = dataclasses.replace(tiny_config, vocab_size=300)
    save_file(tensors_of(small), model_dir / "model.safetensors")
    edit_config(model_dir, vocab_size=300)
    with pytest.raises(UserError, match=r"tokenizer has 320 tokens but the model in .* expects at most 300"):
        read_model_folder(model_dir)


def test_a_folder_without_a_tokenizer_says_so_when_text_is_needed(model_dir):
    (model_dir / "tokenizer.json").unlink()
    read = read_model_folder(model_dir)
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        read.require_tokenizer()


def test_a_tokenmonster_vocabulary_lies_in_the_folder(tmp_path, tiny_config, tiny_tokenmonster, tensors_of):
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, tiny_config, tensors_of(tiny_config), tiny_tokenmonster)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"tokenmonster.vocab", "tokenizer_config.json"} <= names
    assert "tokenizer.json" not in names
    folder = read_model_folder(tmp_path / "model")
    assert folder.require_tokenizer().sha256 == tiny_tokenmonster.sha256
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["eos_token_id"] == tiny_tokenmonster.eos_token_id
    assert config["pad_token_id"] == tiny_tokenmonster.pad_token_id


def test_a_tokenmonster_vocabulary_that_is_too_large_is_refused(tmp_path, tiny_config, tiny_tokenmonster, tensors_of):
    config = dataclasses.replace(tiny_config, vocab_size=tiny_tokenmonster.vocab_size - 1)
    with staged_directory(tmp_path / "model", kind="model") as staging:
        write_model_folder(staging, config, tensors_of(config), tiny_tokenmonster)
    with pytest.raises(UserError, match=f"the tokenizer has {tiny_tokenmonster.vocab_size} tokens but the model"):
        read_model_folder(tmp_path / "model")
