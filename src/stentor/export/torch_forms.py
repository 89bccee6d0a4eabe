"""Smaller forms that a folder takes as it is opened: INT8 on a CPU by torch, 8 and 4 bits by bitsandbytes.

Nothing is written. The folder is a plain one, of any dtype, and whoever opens it so has the form.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stentor.errors import UserError, missing_extra, nearest_name

try:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
except ImportError:
    raise missing_extra("transformers", "hf", needed_for="opening a folder in a smaller form") from None

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITSANDBYTES = {
    "int8": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}
"""What `BitsAndBytesConfig` is told for each form: LLM.int8 (arXiv 2208.07339) and NF4 (QLoRA, arXiv 2305.14314)."""


def quantize_dynamic_int8(model: nn.Module) -> nn.Module:
    """Return a model whose linear layers have INT8 weights and round their inputs as they come, on a CPU.

    torch calls its own way deprecated and works nevertheless; what is to last is ONNX Runtime's INT8 or a GGUF in Q8_0.
    This function is the one place that knows.

    Args:
        model: in float32, on the CPU; it is left as it is.
    """
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"torch\.ao\.quantization is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"torch\.quantize_per_tensor", category=UserWarning)
        return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def open_bitsandbytes(folder: str | Path, form: str, *, device: str = "cpu") -> PreTrainedModel:
    """Open a folder in transformers with the matrices of its layers in 8 or 4 bits.

    The embedding and the head stay as they are. A CPU computes so more slowly than in float32. For a model of this
    size it saves memory, not time.

    Args:
        folder: in Hugging Face layout.
        form: a key of `BITSANDBYTES`.
        device: `cuda` or `cpu`.

    Raises:
        UserError: there is no such form.
        MissingDependencyError: bitsandbytes is not installed.
    """
    if form not in BITSANDBYTES:
        raise UserError(f"bitsandbytes has no form {form!r} here", fix=nearest_name(form, BITSANDBYTES))
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise missing_extra("bitsandbytes", "bnb", needed_for=f"the form {form}") from None
    # Before each product of another dtype it says that inputs are cast to float16: no news, and thousands of lines.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    dtype = torch.float16 if device == "cuda" else torch.float32
    wanted: dict[str, Any] = dict(BITSANDBYTES[form])
    if form == "nf4":
        wanted["bnb_4bit_compute_dtype"] = dtype
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=dtype, quantization_config=BitsAndBytesConfig(**wanted), device_map={"": device}
    )
    return model.eval()
