"""Forms that a folder takes as it is opened."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from stentor.artifacts import staged_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.export import torch_forms
from stentor.export.torch_forms import BITSANDBYTES, open_bitsandbytes, quantize_dynamic_int8
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.names import expected_shapes

IDS = torch.arange(3, 43)[None]


@pytest.fixture
def plain(models):
    return AutoModelForCausalLM.from_pretrained(models["qwen3"], dtype=torch.float32).eval()


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def test_dynamic_int8_predicts_nearly_the_same_and_leaves_the_model_alone(plain):
    before = logits(plain)
    rounded = quantize_dynamic_int8(plain)
    assert torch.equal(logits(plain), before)
    change = (logits(rounded) - before).abs().max() / before.abs().max()
    assert 0 < change < 0.2
    kinds = {type(module).__module__ for module in rounded.modules() if type(module).__name__ == "Linear"}
    assert kinds == {"torch.ao.nn.quantized.dynamic.modules.linear"}


def test_the_warnings_of_torch_are_kept_and_no_others():
    class Loud(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)

        def __deepcopy__(self, memo):
            warnings.warn("mine", UserWarning, stacklevel=2)
            return self

    with pytest.warns(UserWarning, match="mine"):
        quantize_dynamic_int8(Loud())


@pytest.fixture
def even_model(tokenizer, tmp_path):
    """Return a folder whose rows the blocks of bitsandbytes divide."""
    config = ModelConfig(
        carrier="qwen3",
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        head_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    with staged_directory(tmp_path / "even", kind="model") as staging:
        write_model_folder(staging, config, make_tensors(config), tokenizer)
    return tmp_path / "even"


def make_tensors(config):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * 0.15 + (len(shape) == 1)
        for name, shape in expected_shapes(config).items()
    }


def test_bitsandbytes_does_not_tell_of_each_product(even_model, caplog):
    pytest.importorskip("bitsandbytes")
    opened = open_bitsandbytes(even_model, "int8")
    with torch.inference_mode():
        opened(torch.ones((1, 4), dtype=torch.long))
    assert "inputs will be cast" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("form", BITSANDBYTES)
def test_bitsandbytes_has_the_layers_in_few_bits_and_the_ends_as_they_were(even_model, form):
    pytest.importorskip("bitsandbytes")
    plain = AutoModelForCausalLM.from_pretrained(even_model, dtype=torch.float32).eval()
    opened = open_bitsandbytes(even_model, form)
    assert opened.get_memory_footprint() < 0.8 * plain.get_memory_footprint()
    embeddings: list[Any] = [model.get_input_embeddings() for model in (opened, plain)]
    assert torch.equal(embeddings[0].weight.float(), embeddings[1].weight)
    change = (logits(opened) - logits(plain)).abs().max() / logits(plain).abs().max()
    assert 0 < change < (0.2 if form == "int8" else 0.9)


def test_an_unknown_form_is_refused(models):
    with pytest.raises(UserError, match="no form 'nf5'") as caught:
        open_bitsandbytes(models["qwen3"], "nf5")
    assert "nf4" in caught.value.fix


def test_a_missing_package_is_named(models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match="'bitsandbytes', which is not installed") as caught:
        torch_forms.open_bitsandbytes(models["qwen3"], "int8")
    assert "stentor[bnb]" in caught.value.fix
