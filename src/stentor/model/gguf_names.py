"""What a GGUF file calls the tensors of our carriers, and how it orders their rows; for its writer and its reader."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from stentor.model.config import ModelConfig
from stentor.model.names import EMBEDDING, FINAL_NORM, HEAD

TOKENIZER_SHA256_KEY = "stentor.tokenizer_sha256"
"""Names the tokenizer a model was trained with where the file can only carry a stand-in for it."""

_TOP_NAMES = {EMBEDDING: "token_embd", FINAL_NORM: "output_norm", HEAD: "output"}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_NAMES_BACK = {f"{theirs}.weight": name for name, theirs in _TOP_NAMES.items()}
_LAYER_NAMES_BACK = {theirs: name for name, theirs in _LAYER_NAMES.items()}
_LAYER = re.compile(r"blk\.(0|[1-9]\d*)\.(\w+)\.weight", re.ASCII)


def gguf_name(name: str) -> str:
    """Return llama.cpp's name for a tensor of Hugging Face's name."""
    if name in _TOP_NAMES:
        return f"{_TOP_NAMES[name]}.weight"
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


def hugging_face_name(name: str) -> str:
    """Return Hugging Face's name for a tensor of llama.cpp's; one that neither carrier has, in quotation marks."""
    if name in _TOP_NAMES_BACK:
        return _TOP_NAMES_BACK[name]
    parts = _LAYER.fullmatch(name)
    if parts is None or parts[2] not in _LAYER_NAMES_BACK:
        return f"{name!r:.80}"
    return f"model.layers.{parts[1]}.{_LAYER_NAMES_BACK[parts[2]]}.weight"


def row_order(name: str, config: ModelConfig) -> NDArray[np.intp] | None:
    """Return which row of a tensor stands at each place in the file; None where they stand as they are.

    Hugging Face rotates the pair (i, i + H/2) of each head, llama.cpp's `llama` the pair (2i, 2i + 1). Its `qwen3`
    rotates as Hugging Face does.

    Args:
        name: Hugging Face's.
        config: the model's sizes.
    """
    if config.carrier != "llama" or not name.endswith((".q_proj.weight", ".k_proj.weight")):
        return None
    heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
    rows = np.arange(heads * config.head_dim)
    return rows.reshape(heads, 2, config.head_dim // 2).swapaxes(1, 2).ravel()
