"""The adapter, which is peft's: put beside the matrices of a model, saved, and merged into them.

torch, transformers, peft and bitsandbytes are imported only by this file of the stage and by `training`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stentor.artifacts import Staging
from stentor.errors import MissingDependencyError, UserError, missing_extra
from stentor.finetune.settings import FinetuneSettings
from stentor.model.names import expected_shapes

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports; it warns of each product

try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    package = (error.name or "peft").partition(".")[0]
    raise missing_extra(package, "finetune", needed_for="fine-tuning") from None

if TYPE_CHECKING:
    from torch import Tensor

    from stentor.model.config import ModelConfig

ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Every matrix of the layers; the embedding and the norms stay as they are."""
CONFIG_NAME = "adapter_config.json"


def adapted(base: Path, settings: FinetuneSettings, device: torch.device) -> PeftModel:
    """Return a model of transformers, frozen, with a fresh adapter that is to be trained.

    Args:
        base: a model folder in Hugging Face layout.
        settings: of the adapter.
        device: where to compute.

    Raises:
        UserError: the adapter does not fit the model.
        MissingDependencyError: bitsandbytes, which quantizes, is not there or does not work on this device.
    """
    options = {} if settings.quantize is None else _quantized(settings.quantize, device)
    model = _opened(base, **options)
    if settings.quantize is None:
        model = model.to(device)
    else:
        with _quietly():
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    smallest = _smallest_size(model)
    if settings.rank > smallest:
        raise UserError(
            f"--rank is {settings.rank}, but the model's smallest matrix has {smallest} rows or columns",
            fix=f"use a rank of at most {smallest}; 8 or 16 is usual",
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scaled_alpha,  # pyright: ignore[reportArgumentType] - any number serves
        target_modules=ADAPTED,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _quietly():
        torch.manual_seed(settings.seed)
        return get_peft_model(model, config)  # pyright: ignore[reportReturnType]


def save_adapter(model: PeftModel, staging: Staging, name: str, *, base_name: str) -> None:
    """Write an adapter as peft does, into a folder of a staged one.

    Args:
        model: with the adapter.
        staging: the staged folder.
        name: of the adapter's folder in it.
        base_name: what the adapter says it belongs to: a folder or a Hub id.
    """
    model.peft_config["default"].base_model_name_or_path = base_name
    # Whether the embedding has grown would be looked up on the Hub; it never does.
    model.save_pretrained(str(staging.path / name), save_embedding_layers=False)
    config = json.loads((staging.path / name / CONFIG_NAME).read_bytes())
    config["target_modules"] = ADAPTED  # a set, in no order
    staging.write(f"{name}/{CONFIG_NAME}", json.dumps(config, indent=2, sort_keys=True) + "\n")


def opened_with(base: Path, adapter: Path) -> PeftModel:
    """Open a saved adapter beside its model, in float32 on the CPU, with transformers and peft alone."""
    with _quietly():
        return PeftModel.from_pretrained(_opened(base), str(adapter)).eval()


def merged(model: PeftModel, config: ModelConfig) -> dict[str, Tensor]:
    """Return the tensors of a model, its adapter added to them, under Hugging Face's names; the model is used up."""
    with torch.no_grad():
        whole: Any = model.merge_and_unload(safe_merge=True)  # pyright: ignore[reportCallIssue]
    state = whole.state_dict()
    return {name: state[name].float().contiguous() for name in expected_shapes(config)}


def _opened(base: Path, **options: Any) -> Any:
    """Open a model folder in transformers, in float32; without its bar, which would stand between ours."""
    shows_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **options)
    finally:
        if shows_bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep a warning back that peft brings about in transformers, which nobody here can heed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _smallest_size(model: Any) -> int:
    """Return the fewest rows or columns that a matrix to be adapted has."""
    matrices = [module for name, module in model.named_modules() if name.rpartition(".")[2] in ADAPTED]
    return min(min(matrix.in_features, matrix.out_features) for matrix in matrices)


def _quantized(quantize: str, device: torch.device) -> dict[str, Any]:
    """Return the options under which transformers quantizes what it opens."""
    try:
        import bitsandbytes  # noqa: F401 - transformers asks for it later, at greater length
    except ImportError:
        raise missing_extra("bitsandbytes", "bnb", needed_for=f"--quantize {quantize}") from None
    if device.type not in ("cuda", "cpu"):
        raise MissingDependencyError(
            f"--quantize {quantize} does not work on the device {device.type}", fix="leave it out, or use --device cpu"
        )
    products = torch.bfloat16 if device.type == "cuda" else torch.float32
    if quantize == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=products,
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}
