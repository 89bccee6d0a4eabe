"""Forms that a folder takes as it is opened."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

from stentor.errors import MissingDependencyError, UserError
from stentor.export import torch_forms
from stentor.export.torch_forms import BITSANDBYTES, open_bitsandbytes, quantize_dynamic_int8

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


@pytest.mark.parametrize("form", BITSANDBYTES)
def test_bitsandbytes_has_the_layers_in_few_bits_and_the_ends_as_they_were(models, plain, form):
    pytest.importorskip("bitsandbytes")
    opened = open_bitsandbytes(models["qwen3"], form)
    assert opened.get_memory_footprint() < 0.8 * plain.get_memory_footprint()
    assert torch.equal(opened.get_input_embeddings().weight.float(), plain.get_input_embeddings().weight)
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
