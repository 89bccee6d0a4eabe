"""A model on disk: the Hugging Face folder that every command reads and every checkpoint is.

`config.json`, `model.safetensors` under Hugging Face's names, the tokenizer's files and generation defaults, so
that plain `from_pretrained` opens it with no code of ours; only a TokenMonster vocabulary needs `import stentor.hf`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stentor.artifacts import Staging
from stentor.errors import UserError, missing_extra
from stentor.model.config import CARRIERS, ModelConfig
from stentor.model.init import INITIAL_STD
from stentor.model.llama import Llama
from stentor.model.names import check_tensors, expected_shapes, from_hugging_face
from stentor.model.reference_layout import from_reference, is_reference
from stentor.tokenizer import Tokenizer

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
BEST_NAME = "best.json"
CHECKPOINTS_NAME = "checkpoints"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.vocab"]
GENERATION_DEFAULTS = {"do_sample": True, "temperature": 0.9, "top_p": 0.65, "repetition_penalty": 1.15}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model read from disk: sizes, float32 tensors under Hugging Face's names, and its tokenizer."""

    path: Path
    config: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, which commands that read or write text cannot do without."""
        if self.tokenizer is None:
            raise UserError(
                f"{self.path} has no tokenizer.json or tokenmonster.vocab",
                fix="put the tokenizer the model was trained with there",
            )
        return self.tokenizer

    def build(self, device: torch.device | str = "cpu") -> Llama:
        """Return the network with these weights, ready to measure or generate."""
        return build_model(self.config, self.tensors, origin=str(self.path)).to(device)


def build_model(config: ModelConfig, tensors: Mapping[str, Tensor], *, origin: str) -> Llama:
    """Return the network filled with tensors under Hugging Face's names, which are checked against the sizes."""
    model = Llama(config)
    model.load_state_dict(from_hugging_face(config, tensors, origin=origin))
    return model.eval()


def resolve_model(path_or_id: str | Path) -> Path:
    """Return the folder that a model's name stands for.

    Args:
        path_or_id: a model folder; a run folder, which stands for its best checkpoint; or a Hub id (`name/model`).

    Raises:
        UserError: it is none of these.
    """
    path = Path(path_or_id)
    if (path / BEST_NAME).is_file():
        return best_checkpoint(path)
    if (path / CONFIG_NAME).is_file():
        return path
    if path.suffix == ".gguf" and path.is_file():
        raise UserError(
            f"{path} is a GGUF file, which this command cannot read yet", fix="pass the folder it came from"
        )
    if path.exists():
        raise UserError(f"{path} holds no model ({CONFIG_NAME} is missing)", fix="pass a model folder or a run folder")
    if _HUB_ID.fullmatch(str(path_or_id)):
        return _download(str(path_or_id))
    raise UserError(
        f"there is no model {path_or_id}", fix="pass a model folder, a run folder or a Hub id such as org/name"
    )


def best_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint folder a run calls its best."""
    try:
        step = int(json.loads((run_dir / BEST_NAME).read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run_dir / BEST_NAME} is damaged", fix="name a folder under checkpoints/ instead") from None
    return run_dir / CHECKPOINTS_NAME / checkpoint_name(step)


def checkpoint_name(step: int) -> str:
    """Return the folder name of the checkpoint after `step` optimizer updates."""
    return f"step-{step:07d}"


def read_model_folder(path_or_id: str | Path) -> ModelFolder:
    """Read a model from disk or the Hub, refusing anything that is not exactly a whole model.

    Raises:
        UserError: a file or tensor is missing, unexpected, mis-shaped or not finite, or the tokenizer has more
            tokens than the embedding has rows.
    """
    path = resolve_model(path_or_id)
    config = parse_config(path / CONFIG_NAME)
    tensors = _read_tensors(path, config)
    tokenizer = Tokenizer.load(path) if Tokenizer.is_in(path) else None
    if tokenizer is not None:
        require_matching(tokenizer, config, origin=str(path))
    return ModelFolder(path, config, tensors, tokenizer)


def require_matching(tokenizer: Tokenizer, config: ModelConfig, *, origin: str) -> None:
    """Refuse a tokenizer whose ids the model's embedding cannot hold."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens but the model in {origin} expects at most "
            f"{config.vocab_size}",
            fix="pass the tokenizer the model was trained with",
        )


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
    staging.write(CONFIG_NAME, _json(hugging_face_config(config, tokenizer, dtype=dtype)))
    staging.write(WEIGHTS_NAME, save(renamed(stored), metadata={"format": "pt"}))
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


def parse_config(path: Path) -> ModelConfig:
    """Read the sizes from a `config.json`.

    Raises:
        UserError: it is damaged, or describes a network that ours is not.
    """
    try:
        raw = json.loads(path.read_bytes())
        if raw["model_type"] not in CARRIERS:
            raise UserError(
                f"{path} describes a {raw['model_type']!r} model", fix=f"Stentor reads {' and '.join(CARRIERS)} models"
            )
        rope = raw.get("rope_parameters") or {}
        _refuse_variants(path, raw, rope)
        heads = _whole(raw["num_attention_heads"])
        return ModelConfig(
            carrier=raw["model_type"],
            vocab_size=_whole(raw["vocab_size"]),
            hidden_size=_whole(raw["hidden_size"]),
            intermediate_size=_whole(raw["intermediate_size"]),
            num_hidden_layers=_whole(raw["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=_whole(raw.get("num_key_value_heads") or heads),
            head_dim=_whole(raw.get("head_dim") or raw["hidden_size"] // heads),
            max_position_embeddings=_whole(raw["max_position_embeddings"]),
            rope_theta=float(raw.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
            rms_norm_eps=float(raw["rms_norm_eps"]),
            tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{path} is not a whole config.json ({error!r})", fix="fetch or export the model again"
        ) from None


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _refuse_variants(path: Path, raw: dict[str, Any], rope: dict[str, Any]) -> None:
    """Refuse settings that would change the numbers if they were ignored."""
    scaling = raw.get("rope_scaling") or {}
    variants = {
        "rope_type": (rope.get("rope_type") or "default", "default"),
        "rope_scaling": (scaling.get("rope_type") or scaling.get("type") or "default", "default"),  # its older name
        "partial_rotary_factor": (raw.get("partial_rotary_factor") or 1, 1),
        "quantization_config": (raw.get("quantization_config"), None),
        "attention_bias": (bool(raw.get("attention_bias")), False),
        "mlp_bias": (bool(raw.get("mlp_bias")), False),
        "hidden_act": (raw.get("hidden_act", "silu"), "silu"),
        "use_sliding_window": (bool(raw.get("use_sliding_window")), False),
        "layer_types": (sorted({*(raw.get("layer_types") or ()), "full_attention"}), ["full_attention"]),
    }
    for name, (value, supported) in variants.items():
        if value != supported:
            raise UserError(f"{path} has {name} {value!r}", fix=f"Stentor reads models with {name} {supported!r}")


def _read_tensors(path: Path, config: ModelConfig) -> dict[str, Tensor]:
    weights = path / WEIGHTS_NAME
    try:
        with safe_open(weights, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise UserError(f"{path} has no {WEIGHTS_NAME}", fix="fetch or export the model again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights} is damaged ({error})", fix="fetch or export the model again") from None
    if is_reference(tensors):
        tensors = from_reference(tensors, origin=str(weights))
    if config.num_hidden_layers > len(tensors):  # before a name is made for each of a billion layers
        raise UserError(
            f"{weights} has {len(tensors)} tensors, too few for the {config.num_hidden_layers} layers of its config",
            fix="pass the config.json and weights of one and the same model",
        )
    check_tensors(config, tensors, origin=str(weights))
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            stored = str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"{weights}: {name} holds {stored}, not plain weights", fix="export it in float32")
        tensors[name] = tensor.float()
        if not torch.isfinite(tensors[name]).all():
            raise UserError(f"{weights}: {name} holds NaN or infinity", fix="use an earlier checkpoint")
    return tensors


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, int]:
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("huggingface_hub", "hf", needed_for=f"fetching {hub_id}") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"the model {hub_id} is neither a folder here nor to be had from the Hugging Face Hub "
            f"({type(error).__name__})",
            fix="check the name and the network, or pass a local folder",
        ) from error


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
