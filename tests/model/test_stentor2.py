"""Stentor2's checkpoints opened as plain models of transformers: every weight set, or a sentence that names it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import warnings
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, Qwen3ForCausalLM

import stentor
from stentor.artifacts import staged_directory
from stentor.errors import MissingDependencyError, StentorError, UserError
from stentor.hf import StentorTokenMonsterTokenizer
from stentor.model.config import ModelConfig
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.model.reference_layout import to_reference
from stentor.model.stentor2 import load_stentor2

WEIGHTS = "model.safetensors"
MASTER = "model.layers.1.mlp.up_proj.weight_master"
TEXT = "The people of this world, 1234."


@pytest.fixture
def config(tiny_config) -> ModelConfig:
    return tiny_config


@pytest.fixture
def write(tmp_path, tensors_of):
    """Return a function that writes a checkpoint, by default in the reference's layout, and gives its folder."""

    def run(config, tokenizer, *, renamed=to_reference, name="checkpoint"):
        with staged_directory(tmp_path / name, kind="model") as staging:
            write_model_folder(staging, config, tensors_of(config), tokenizer, renamed=renamed)
        (tmp_path / name / "manifest.json").unlink()  # the author's folders have none, and a test may damage this one
        return tmp_path / name

    return run


@pytest.fixture
def checkpoint(write, config, tiny_tokenizer):
    return write(config, tiny_tokenizer)


def change(folder, alter) -> None:
    """Rewrite the stored tensors of a folder."""
    tensors = load_file(folder / WEIGHTS)
    alter(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def opened(folder) -> tuple[Any, Any]:
    """Open a folder; transformers' own types hide what its models can do."""
    return load_stentor2(folder)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


# --- what is opened ---


def test_every_weight_of_a_reference_checkpoint_is_set(checkpoint):
    model, tokenizer = stentor.load_stentor2(checkpoint)
    assert type(model) is LlamaForCausalLM
    assert not model.training
    stored = {name.replace("_master", ""): tensor for name, tensor in load_file(checkpoint / WEIGHTS).items()}
    state = model.state_dict()
    assert state.keys() == {*stored, "lm_head.weight"}
    assert all(same_bits(state[name], tensor) for name, tensor in stored.items())
    ours = read_model_folder(checkpoint)
    assert tokenizer(TEXT)["input_ids"] == ours.require_tokenizer().encode(TEXT)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"][:30]])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, ours.build()(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_wrappers_and_buffers_of_the_rounding_are_taken_off(checkpoint, prefix):
    plain = load_stentor2(checkpoint)[0].state_dict()

    def wrap(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)
            if name.endswith("_master"):
                tensors[prefix + name.replace("_master", "_scale")] = torch.ones(1)

    change(checkpoint, wrap)
    wrapped = load_stentor2(checkpoint)[0].state_dict()
    assert all(same_bits(wrapped[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("sizes", [{}, {"carrier": "qwen3"}, {"tie_word_embeddings": False}])
def test_an_ordinary_folder_is_opened_too_as_plain_from_pretrained_opens_it(write, config, tiny_tokenizer, sizes):
    folder = write(dataclasses.replace(config, **sizes), tiny_tokenizer, renamed=dict)
    model, tokenizer = opened(folder)
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(theirs, type(model))
    assert type(model) is (Qwen3ForCausalLM if sizes.get("carrier") else LlamaForCausalLM)
    assert type(tokenizer) is type(AutoTokenizer.from_pretrained(folder))
    assert all(same_bits(tensor, theirs.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert {**model.config.to_dict(), "_name_or_path": ""} == {**theirs.config.to_dict(), "_name_or_path": ""}
    assert model.generation_config.to_diff_dict() == theirs.generation_config.to_diff_dict()


def test_a_tied_head_is_one_tensor_without_a_warning_and_saved_once_to_the_bit(checkpoint, tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, tokenizer = opened(checkpoint)
        model.save_pretrained(tmp_path / "saved")
        tokenizer.save_pretrained(tmp_path / "saved")
        again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
        again[0].save_pretrained(tmp_path / "again")
    for each in (model, again[0]):
        assert each.lm_head.weight.data_ptr() == each.model.embed_tokens.weight.data_ptr()
    assert "lm_head.weight" not in load_file(tmp_path / "saved" / WEIGHTS)
    assert not any(again[1].values())
    assert all(same_bits(tensor, again[0].state_dict()[name]) for name, tensor in model.state_dict().items())
    assert (tmp_path / "saved" / WEIGHTS).read_bytes() == (tmp_path / "again" / WEIGHTS).read_bytes()
    reopened, _ = load_stentor2(tmp_path / "saved")
    assert all(same_bits(tensor, reopened.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert "warn" not in capfd.readouterr().err.lower()


def test_a_tokenmonster_vocabulary_gives_the_models_own_ids_whatever_its_file_is_called(
    write, config, tiny_tokenmonster
):
    folder = write(config, tiny_tokenmonster)
    (folder / "tokenmonster.vocab").rename(folder / "english-8000-strict-nocapcode-v1.vocab")
    (folder / "tokenizer_config.json").unlink()
    model, tokenizer = opened(folder)
    assert isinstance(tokenizer, StentorTokenMonsterTokenizer)
    assert tokenizer(TEXT)["input_ids"] == tiny_tokenmonster.encode(TEXT)
    assert tokenizer.model_max_length == config.max_position_embeddings
    assert model.generation_config.eos_token_id == tiny_tokenmonster.eos_token_id
    made = model.generate(**tokenizer("The", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert made.shape[1] == 3 + len(tiny_tokenmonster.encode("The"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", torch.float16])
def test_the_dtype_is_that_of_every_weight(checkpoint, dtype):
    model, _ = load_stentor2(checkpoint, dtype=dtype)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    assert model.config.dtype == wanted
    master = load_file(checkpoint / WEIGHTS)[MASTER].to(wanted)
    assert same_bits(model.state_dict()[MASTER.removesuffix("_master")], master)


def test_a_hub_id_is_opened_from_the_hubs_cache_without_a_network(checkpoint, tmp_path, monkeypatch):
    """The real `snapshot_download`, over a cache as it leaves one."""
    root = tmp_path / "cache" / "models--some-lab--some-model"
    shutil.copytree(checkpoint, root / "snapshots" / ("a" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    model, _ = load_stentor2("some-lab/some-model")
    assert same_bits(model.state_dict()["model.norm.weight"], load_file(checkpoint / WEIGHTS)["model.norm.weight"])


def test_the_reference_is_meant_where_nothing_is_named(checkpoint, monkeypatch):
    asked = []

    def snapshot_download(hub_id: str, **_: Any) -> str:
        asked.append(hub_id)
        return str(checkpoint)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_stentor2(dtype=torch.float16)[0].dtype == torch.float16
    assert asked == ["StentorLabs/Stentor2-12M-Preview"]


# --- what is refused ---


def without(name):
    return lambda tensors: tensors.pop(name)


def with_value(name, value):
    def alter(tensors):
        tensors[name][1, 2] = value

    return alter


def of_shape(name, *shape):
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


def prefixed(prefix):
    def alter(tensors):
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    return alter


DAMAGES = {
    "missing master": (without(MASTER), r"missing model\.layers\.1\.mlp\.up_proj\.weight; .*cut short"),
    "missing norm": (without("model.norm.weight"), r"missing model\.norm\.weight"),
    "missing embedding": (without("model.embed_tokens.weight"), r"missing model\.embed_tokens\.weight"),
    "unexpected": (of_shape("model.extra.weight", 2), r"unexpected model\.extra\.weight"),
    "a layer too many": (of_shape("model.layers.2.mlp.up_proj.weight_master", 64, 32), "fewer layers"),
    "mis-shaped": (of_shape(MASTER, 64, 31), r"up_proj\.weight has shape \(64, 31\), .* demands \(64, 32\)"),
    "NaN": (with_value(MASTER, float("nan")), r"up_proj\.weight holds NaN or infinity"),
    "infinity": (with_value("model.embed_tokens.weight", float("inf")), r"embed_tokens\.weight holds NaN or infinity"),
    "a wrapper of another kind": (prefixed("_fsdp_wrapped_module."), "a wrapper left '_fsdp_wrapped_module.' before"),
    "another head": (of_shape("lm_head.weight", 384, 32), "lm_head.weight that differs from the embedding"),
    "twice": (of_shape(MASTER.removesuffix("_master"), 64, 32), r"up_proj\.weight twice"),
    "adapter": (of_shape("model.layers.0.mlp.up_proj.lora_A.weight", 2, 2), "a LoRA adapter"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_by_the_tensors_name(checkpoint, damage):
    alter, said = DAMAGES[damage]
    change(checkpoint, alter)
    with pytest.raises(UserError, match=said) as caught:
        load_stentor2(checkpoint)
    assert str(checkpoint) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.fix


def test_a_file_cut_short_and_one_that_is_not_there_are_refused(checkpoint):
    data = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).write_bytes(data[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_stentor2(checkpoint)
    (checkpoint / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        load_stentor2(checkpoint)
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not a whole config\.json"):
        load_stentor2(checkpoint)


def test_weights_beyond_the_range_of_a_dtype_are_refused_by_name(checkpoint):
    change(checkpoint, with_value(MASTER, 7e4))
    with pytest.raises(UserError, match=r"up_proj\.weight holds 7e\+04, beyond float16") as caught:
        load_stentor2(checkpoint, dtype="float16")
    assert "float32" in caught.value.fix
    assert load_stentor2(checkpoint, dtype="bfloat16")[0].dtype == torch.bfloat16


def test_a_tokenizer_of_another_model_is_refused(checkpoint, write, config, tiny_tokenizer):
    small = write(dataclasses.replace(config, vocab_size=256), None, name="small")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, small / name)
    with pytest.raises(UserError, match=f"the tokenizer has {tiny_tokenizer.vocab_size} tokens but the model"):
        load_stentor2(small)


def test_a_folder_without_a_tokenizer_is_refused_in_one_sentence(checkpoint):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    with pytest.raises(UserError, match="transformers opens no tokenizer in") as caught:
        load_stentor2(checkpoint)
    assert "\n" not in caught.value.message
    assert ".vocab" in caught.value.fix


def test_a_gguf_file_an_unknown_dtype_and_a_device_that_is_not_there_are_refused(checkpoint, write_model_gguf):
    with pytest.raises(UserError, match="is a GGUF file") as caught:
        load_stentor2(write_model_gguf())
    assert "--to huggingface" in caught.value.fix
    with pytest.raises(UserError, match="there is no dtype 'float61'") as caught:
        load_stentor2(checkpoint, dtype="float61")
    assert "float16" in caught.value.fix
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(MissingDependencyError, match=f"torch cannot use the device '{device}' here"):
            load_stentor2(checkpoint, device=device)


def test_without_a_network_or_without_transformers_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="nor to be had from the Hugging Face Hub") as caught:
        load_stentor2("some-lab/some-model")
    assert "\n" not in caught.value.message
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(StentorError, match="needs the package 'transformers'") as raised:
        load_stentor2(tmp_path)
    assert (raised.value.exit_code, "stentor[hf]" in raised.value.fix) == (4, True)


def test_a_config_of_transformers_4_or_5_alone_gives_the_same_base_of_rope(checkpoint):
    path = checkpoint / "config.json"
    body = json.loads(path.read_text())
    for kept, dropped in (("rope_theta", "rope_parameters"), ("rope_parameters", "rope_theta")):
        path.write_text(json.dumps({key: value for key, value in body.items() if key != dropped}))
        found = load_stentor2(checkpoint)[0].config.to_dict()["rope_parameters"]["rope_theta"]
        assert found == body["rope_theta"], kept
