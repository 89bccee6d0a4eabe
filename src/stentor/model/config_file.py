"""Read a Hugging Face `config.json`, and refuse one that describes a network which ours is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stentor.errors import UserError
from stentor.json_text import parse_json
from stentor.model.config import CARRIERS, ModelConfig, config_in
from stentor.sealed import require_sealed


def parse_config(path: Path) -> ModelConfig:
    """Read the sizes from a `config.json`.

    Raises:
        UserError: it is damaged, or describes a network that ours is not.
        CorruptArtifactError: it was altered since its folder was sealed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    config = _parsed(path, data)
    require_sealed(path, data)
    return config


def _parsed(path: Path, data: bytes) -> ModelConfig:
    try:
        raw = parse_json(data)
        if raw["model_type"] not in CARRIERS:
            raise UserError(
                f"{path} describes a {raw['model_type']!r:.80} model",
                fix=f"Stentor reads {' and '.join(CARRIERS)} models; transformers:MODEL opens any other",
            )
        rope = raw.get("rope_parameters") or {}
        _refuse_variants(path, raw, rope)
        heads = _whole(raw["num_attention_heads"])
        return config_in(
            path,
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
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{path} is not a whole config.json ({error!r:.300})", fix="fetch or export the model again"
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
            raise UserError(f"{path} has {name} {value!r:.80}", fix=f"Stentor reads models with {name} {supported!r}")
