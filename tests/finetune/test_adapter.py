"""The adapter between peft's hands and ours: saved, opened, merged; and what cannot be adapted."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from stentor.artifacts import staged_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.finetune.adapter import ADAPTED, adapted, merged, opened_with, save_adapter
from stentor.finetune.settings import FinetuneSettings
from stentor.model.folder import build_model, read_model_folder

CPU = torch.device("cpu")
IDS = torch.arange(20)[None]


def with_values(model, seed: int = 0):
    """Return a model whose adapter is no longer nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture
def saved(model_dir, tmp_path):
    """Return the folder of an adapter, and the logits of the model that it was saved from."""
    model = with_values(adapted(model_dir, FinetuneSettings(rank=3), CPU))
    with staged_directory(tmp_path / "out", kind="finetune") as staging:
        save_adapter(model, staging, "adapter", base_name="some/base")
    with torch.inference_mode():
        return tmp_path / "out" / "adapter", model(input_ids=IDS).logits


def test_a_fresh_adapter_changes_nothing(model_dir):
    model = adapted(model_dir, FinetuneSettings(rank=3), CPU)
    ours = read_model_folder(model_dir).build()
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=IDS).logits, ours(IDS), atol=1e-5, rtol=0)
    names = {
        name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name
    }
    assert names == set(ADAPTED)


def test_what_is_saved_opens_as_it_was(model_dir, saved):
    adapter, logits = saved
    with torch.inference_mode():
        torch.testing.assert_close(opened_with(model_dir, adapter)(input_ids=IDS).logits, logits, atol=1e-5, rtol=0)


def test_the_adapters_file_says_what_it_belongs_to(saved):
    config = json.loads((saved[0] / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == "some/base"
    assert config["target_modules"] == ADAPTED
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (3, 6.0, "LORA")


def test_merged_weights_are_the_same_model(model_dir, saved, tiny_config):
    adapter, logits = saved
    tensors = merged(opened_with(model_dir, adapter), tiny_config)
    with torch.inference_mode():
        ours = build_model(tiny_config, tensors, origin="merged")(IDS)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=0)
    original = read_model_folder(model_dir).tensors
    changed = {name for name, tensor in tensors.items() if not torch.equal(tensor, original[name])}
    assert changed == {name for name in original if name.rpartition(".weight")[0].rpartition(".")[2] in ADAPTED}


def test_the_seed_alone_decides_how_an_adapter_begins(model_dir):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    models = [adapted(model_dir, FinetuneSettings(rank=3, seed=seed), CPU) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, other = ([p for n, p in model.named_parameters() if "lora_A" in n] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_rank_above_the_matrices_is_refused(model_dir):
    with pytest.raises(UserError, match="--rank is 33, but the model's smallest matrix has 32 rows or columns"):
        adapted(model_dir, FinetuneSettings(rank=33), CPU)


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_frozen_weights_are_quantized(model_dir, quantize):
    model = adapted(model_dir, FinetuneSettings(rank=3, quantize=quantize), CPU)
    kinds = {type(module).__name__ for name, module in model.named_modules() if name.endswith("base_layer")}
    assert kinds == {{"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[quantize]}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)


def test_quantizing_without_its_package_names_the_extra(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match="--quantize 4bit needs the package 'bitsandbytes'") as caught:
        adapted(model_dir, FinetuneSettings(quantize="4bit"), CPU)
    assert "stentor[bnb]" in caught.value.fix


def test_quantizing_where_it_does_not_work_is_said(model_dir):
    with pytest.raises(MissingDependencyError, match="--quantize 8bit does not work on the device mps"):
        adapted(model_dir, FinetuneSettings(quantize="8bit"), torch.device("mps"))
