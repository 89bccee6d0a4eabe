"""A GGUF file of one of our carriers becomes sizes, weights under Hugging Face's names, and a tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stentor.errors import UserError
from stentor.model.config import CARRIERS, ModelConfig, config_in
from stentor.model.gguf_file import GgufFile, open_gguf
from stentor.model.gguf_names import gguf_name, hugging_face_name, row_order
from stentor.model.gguf_tokenizer import read_tokenizer
from stentor.model.names import EMBEDDING, HEAD, check_shapes
from stentor.model.quantized import Array, Quantized
from stentor.tokenizer import Tokenizer

_VARIANTS = {
    "rope.scaling.type": "none",
    "rope.scaling.factor": 1,
    "rope.scale_linear": 1,
    "expert_count": 0,
    "attention.sliding_window": 0,
}
"""Settings that would change the numbers if they were ignored, and the values at which they do nothing."""


def read_gguf_model(path: Path) -> tuple[ModelConfig, dict[str, Array], Tokenizer]:
    """Read a file that holds a whole model.

    Returns:
        The sizes; all tensors under Hugging Face's names, rows in its order, matrices in blocks left in their own;
        and the tokenizer, from beside the file or rebuilt from it.

    Raises:
        UserError: it is damaged, no model of ours, or says too little to be one.
    """
    file = open_gguf(path)
    config = _read_config(file)
    stored = {hugging_face_name(name): tensor for name, tensor in file.tensors.items()}
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    check_shapes(config, shapes, origin=str(path), sizes_from="metadata")
    arrays = {name: _as_hugging_face(name, tensor, config) for name, tensor in stored.items()}
    return config, arrays, read_tokenizer(file)


def _read_config(file: GgufFile) -> ModelConfig:
    carrier = file.text("general.architecture")
    if carrier not in CARRIERS:
        raise UserError(
            f"{file.path} holds a {carrier!r:.80} model", fix=f"Stentor reads {' and '.join(CARRIERS)} models"
        )
    _refuse_variants(file, carrier)
    hidden, heads = file.whole(f"{carrier}.embedding_length"), file.whole(f"{carrier}.attention.head_count")
    return config_in(
        file.path,
        carrier=carrier,
        vocab_size=_embedding_rows(file),
        hidden_size=hidden,
        intermediate_size=file.whole(f"{carrier}.feed_forward_length"),
        num_hidden_layers=file.whole(f"{carrier}.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=file.whole(f"{carrier}.attention.head_count_kv", heads),
        head_dim=_head_dim(file, carrier, hidden // heads if heads else 0),
        max_position_embeddings=file.whole(f"{carrier}.context_length"),
        rope_theta=_shortest(file.number(f"{carrier}.rope.freq_base", 10_000.0)),
        rms_norm_eps=_shortest(file.number(f"{carrier}.attention.layer_norm_rms_epsilon")),
        tie_word_embeddings=gguf_name(HEAD) not in file.tensors,
    )


def _shortest(number: float) -> float:
    """Return the number of fewest digits that float32 rounds to the one in the file: 1e-05, not 9.999999747e-06."""
    return float(str(np.float32(number)))


def _embedding_rows(file: GgufFile) -> int:
    embedding = file.tensors.get(gguf_name(EMBEDDING))
    if embedding is None:
        raise UserError(f"{file.path} has no {gguf_name(EMBEDDING)}", fix="fetch or export the model again")
    return embedding.shape[0]


def _head_dim(file: GgufFile, carrier: str, default: int) -> int:
    """Return the size of a head, which keys, values and RoPE must share."""
    head_dim = file.whole(f"{carrier}.attention.key_length", default)
    for key in ("attention.value_length", "rope.dimension_count"):
        found = file.whole(f"{carrier}.{key}", head_dim)
        if found != head_dim:
            raise UserError(
                f"{file.path} has {carrier}.{key} {found}, and heads of {head_dim}",
                fix="Stentor reads models whose heads rotate whole, with keys as long as values",
            )
    return head_dim


def _refuse_variants(file: GgufFile, carrier: str) -> None:
    for key, harmless in _VARIANTS.items():
        value = file.metadata.get(f"{carrier}.{key}", harmless)
        if isinstance(value, np.ndarray) or value != harmless:
            raise UserError(
                f"{file.path} has {carrier}.{key} {value!r:.80}", fix=f"Stentor reads models with {key} {harmless!r}"
            )


def _as_hugging_face(name: str, tensor: Array, config: ModelConfig) -> Array:
    """Return a tensor with its rows where Hugging Face has them; vectors are plain arrays always."""
    if isinstance(tensor, Quantized) and len(tensor.shape) == 1:
        return tensor.dequantized()
    order = row_order(name, config)
    if order is None:
        return tensor
    back = np.argsort(order)
    return tensor.rows(back) if isinstance(tensor, Quantized) else tensor[back]
