"""Stentor2's own checkpoints as plain models of transformers: `stentor.load_stentor2`.

A folder in the reference's layout (`reference_layout`), or an ordinary one, here or on the Hub, becomes a
`LlamaForCausalLM` or `Qwen3ForCausalLM` with every weight set, and a tokenizer that gives the ids it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stentor.errors import MissingDependencyError, UserError, missing_extra, nearest_name
from stentor.model.config_file import parse_config
from stentor.model.locate import CONFIG_NAME, WEIGHTS_NAME, is_gguf, resolve_model
from stentor.model.safetensors_file import read_safetensors
from stentor.model.weights import Weights, require_fitting
from stentor.tokenizer.tokenmonster.load import is_tokenmonster, vocab_in

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFERENCE_ID = "StentorLabs/Stentor2-12M-Preview"
_DTYPES = ("float32", "float16", "bfloat16")
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def load_stentor2(
    path_or_hub_id: str | Path = REFERENCE_ID,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open a Stentor2 checkpoint, or any model folder of Stentor's, as a plain model of transformers.

    Projections that are saved as `weight_master`, and names that torch.compile or DistributedDataParallel prefixed, are
    put right on the way. The result is what `from_pretrained` gives of the folder that
    `stentor export CHECKPOINT FOLDER --to huggingface` writes.

    Args:
        path_or_hub_id: a checkpoint's folder, a run folder (its best checkpoint), or a Hub id such as `org/name`.
        dtype: of the weights: `float32`, `float16` or `bfloat16`, by name or as torch's.
        device: where they go: `cpu`, `cuda`, `mps`, or a device of torch.

    Returns:
        The model, in evaluation mode, and its tokenizer: a TokenMonster vocabulary through `stentor.hf`, any other
        through `AutoTokenizer`.

    Raises:
        UserError: there is no such folder, the Hub cannot be reached, the tokenizer does not fit, or a tensor is
            missing, unexpected, mis-shaped, not finite or beyond the dtype's range; it is named.
        MissingDependencyError: torch or transformers is not installed, or there is no such device.
    """
    for package, extra in (("torch", "train"), ("transformers", "hf")):
        if find_spec(package) is None:
            raise missing_extra(package, extra, needed_for="a model of transformers")
    import transformers

    from stentor.model.folder import GENERATION_DEFAULTS, as_folder, hugging_face_config

    chosen = _dtype(dtype)
    folder = _folder(path_or_hub_id)
    config = parse_config(folder / CONFIG_NAME)
    arrays = read_safetensors(folder / WEIGHTS_NAME, config)
    read = as_folder(Weights(folder, config, arrays, None))
    tokenizer = _tokenizer(folder, config.max_position_embeddings)
    require_fitting(len(tokenizer), config, origin=str(folder))
    special_ids = {name: found for name in _SPECIAL_IDS if (found := getattr(tokenizer, name)) is not None}
    body = {**hugging_face_config(config, None, dtype=chosen), **special_ids}
    kinds: dict[str, Any] = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    config_kind, model_kind = kinds[config.carrier]
    model, loading = model_kind.from_pretrained(
        None,
        config=config_kind.from_dict(body),
        state_dict=_stored_as(read.tensors, chosen, folder),
        dtype=chosen,
        output_loading_info=True,
    )
    if found := {kind: sorted(map(str, entries)) for kind, entries in loading.items() if entries}:
        raise UserError(f"transformers does not find the whole model in {folder}: {found}", fix="please report it")
    model.generation_config = transformers.GenerationConfig(**GENERATION_DEFAULTS, **special_ids)
    return _on_device(model.eval(), device), tokenizer


def _folder(path_or_hub_id: str | Path) -> Path:
    path = resolve_model(path_or_hub_id)
    if is_gguf(path):
        raise UserError(
            f"{path} is a GGUF file, and load_stentor2 opens folders",
            fix=f"make one of it: stentor export {path} FOLDER --to huggingface",
        )
    return path


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    import torch

    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise UserError(f"there is no dtype {name!r} for a model's weights", fix=nearest_name(name, _DTYPES))
    return getattr(torch, name)


def _tokenizer(folder: Path, context_length: int) -> PreTrainedTokenizerBase:
    """Open the folder's tokenizer, with the one class that gives the ids of its vocabulary."""
    from transformers import AutoTokenizer

    if is_tokenmonster(folder):
        from stentor.hf import StentorTokenMonsterTokenizer

        return StentorTokenMonsterTokenizer(str(vocab_in(folder)), model_max_length=context_length)
    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"transformers opens no tokenizer in {folder}: {reason}",
            fix="put the tokenizer.json or the .vocab that the model was trained with there",
        ) from None


def _stored_as(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype, folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a dtype, and refuse one that its range does not hold."""
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not tensor.isfinite().all():
            largest = float(tensors[name].abs().max())
            raise UserError(
                f"{folder}: {name} holds {largest:.4g}, beyond {str(dtype).removeprefix('torch.')}",
                fix="use the dtype float32",
            )
    return stored


def _on_device(model: Any, device: str | torch.device) -> PreTrainedModel:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingDependencyError(
            f"torch cannot use the device {str(device)!r} here: {reason}", fix="use the device cpu"
        ) from None
