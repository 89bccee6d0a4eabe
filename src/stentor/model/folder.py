"""A model on disk: the Hugging Face folder that every command reads and every checkpoint is.

`config.json`, `model.safetensors` under Hugging Face's names, the tokenizer's files and generation defaults, so
that plain `from_pretrained` opens it with no code of ours; only a TokenMonster vocabulary needs `import stentor.hf`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from stentor.artifacts import Staging
from stentor.model.config import ModelConfig
from stentor.model.config_file import parse_config
from stentor.model.init import INITIAL_STD
from stentor.model.llama import Llama
from stentor.model.locate import (
    BEST_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    best_checkpoint,
    checkpoint_name,
    resolve_model,
)
from stentor.model.names import check_tensors, expected_shapes, from_hugging_face
from stentor.model.quantized import as_float32
from stentor.model.weights import Weights, read_weights, require_matching, required_tokenizer
from stentor.tokenizer import Tokenizer

# What needs no torch is written in files of its own; whoever has torch finds all of it here.
__all__ = [
    "BEST_NAME",
    "CHECKPOINTS_NAME",
    "CONFIG_NAME",
    "GENERATION_DEFAULTS",
    "WEIGHTS_NAME",
    "ModelFolder",
    "as_folder",
    "best_checkpoint",
    "build_model",
    "checkpoint_name",
    "hugging_face_config",
    "parse_config",
    "read_model_folder",
    "require_matching",
    "resolve_model",
    "write_model_folder",
    "write_settings",
]

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
GENERATION_DEFAULTS = {"do_sample": True, "temperature": 0.9, "top_p": 0.65, "repetition_penalty": 1.15}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model read from disk: sizes, float32 tensors under Hugging Face's names, and its tokenizer.

    Attributes:
        path: the folder, or the .gguf file.
    """

    path: Path
    config: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, which commands that read or write text cannot do without."""
        return required_tokenizer(self.tokenizer, self.path)

    def build(self, device: torch.device | str = "cpu") -> Llama:
        """Return the network with these weights, ready to measure or generate."""
        return build_model(self.config, self.tensors, origin=str(self.path)).to(device)


def build_model(config: ModelConfig, tensors: Mapping[str, Tensor], *, origin: str) -> Llama:
    """Return the network filled with tensors under Hugging Face's names, which are checked against the sizes."""
    model = Llama(config)
    model.load_state_dict(from_hugging_face(config, tensors, origin=origin))
    return model.eval()


def read_model_folder(path_or_id: str | Path) -> ModelFolder:
    """Read a model for torch; what it may be and what is refused, see `read_weights`."""
    return as_folder(read_weights(path_or_id))


def as_folder(read: Weights) -> ModelFolder:
    """Return a model that was read, for torch."""
    # torch wants memory that may be written; a view of a file may not.
    values = {name: np.require(as_float32(array), requirements="W") for name, array in read.arrays.items()}
    tensors = {name: torch.from_numpy(array) for name, array in values.items()}
    return ModelFolder(read.origin, read.config, tensors, read.tokenizer)


def write_model_folder(
    staging: Staging,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    *,
    dtype: torch.dtype = torch.float32,
    renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Write a model in Hugging Face layout into a staged folder.

    Args:
        staging: the folder being filled.
        config: the model's sizes.
        tensors: all tensors under Hugging Face's names; a tied head is stored once, as the embedding.
        tokenizer: its files are written beside the weights.
        dtype: of the stored weights.
        renamed: gives tensors the names they are stored under, where those are not Hugging Face's.
    """
    check_tensors(config, tensors, origin="the model to write")
    stored = {name: tensors[name].to("cpu", dtype).contiguous() for name in expected_shapes(config)}
    staging.write(WEIGHTS_NAME, save(renamed(stored), metadata={"format": "pt"}))
    write_settings(staging, config, tokenizer, dtype=dtype)


def write_settings(
    staging: Staging, config: ModelConfig, tokenizer: Tokenizer | None, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write what a model folder has beside its weights: sizes, defaults of generation, the tokenizer."""
    staging.write(CONFIG_NAME, _json(hugging_face_config(config, tokenizer, dtype=dtype)))
    staging.write("generation_config.json", _json({**GENERATION_DEFAULTS, **_special_ids(tokenizer)}))
    if tokenizer is not None:
        for name, data in tokenizer.files(model_max_length=config.max_position_embeddings).items():
            staging.write(name, data)


def hugging_face_config(config: ModelConfig, tokenizer: Tokenizer | None, *, dtype: torch.dtype) -> dict[str, Any]:
    """Return `config.json` as both transformers 4 and 5 read it: RoPE's base and the dtype in both spellings."""
    dtype_name = str(dtype).removeprefix("torch.")
    body: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[config.carrier]],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": dtype_name,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": INITIAL_STD,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": config.carrier,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype_name,
        "use_cache": True,
        "vocab_size": config.vocab_size,
        **_special_ids(tokenizer),
    }
    if config.carrier == "llama":
        body["mlp_bias"] = False
    return dict(sorted(body.items()))


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, int]:
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
