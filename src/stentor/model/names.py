"""The one bijection between our stacked, merged parameters and Hugging Face's names.

Checkpoints and folders hold Hugging Face's names always; only the running network knows the stacked ones. Importing
this file never imports torch: names and shapes are checked for arrays of any kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.mismatch import likely_reason

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL_NORM = "model.norm.weight"
_LISTED = 4


def parts(config: ModelConfig) -> dict[str, tuple[tuple[str, int], ...]]:
    """Return, for each stacked parameter of ours, the Hugging Face names it merges per layer and their rows."""
    query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    mapping = {
        "attention_norm_LD": (("input_layernorm", hidden),),
        "qkv_LED": (("self_attn.q_proj", query), ("self_attn.k_proj", key_value), ("self_attn.v_proj", key_value)),
        "attention_out_LDE": (("self_attn.o_proj", hidden),),
        "mlp_norm_LD": (("post_attention_layernorm", hidden),),
        "gate_up_LFD": (("mlp.gate_proj", inner), ("mlp.up_proj", inner)),
        "down_LDF": (("mlp.down_proj", hidden),),
    }
    if config.has_qk_norm:
        mapping["q_norm_LH"] = (("self_attn.q_norm", config.head_dim),)
        mapping["k_norm_LH"] = (("self_attn.k_norm", config.head_dim),)
    return mapping


def to_hugging_face(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split our parameters into tensors under Hugging Face's names; the inverse of `from_hugging_face`."""
    tensors = {EMBEDDING: state["embedding_VD"], FINAL_NORM: state["final_norm_D"]}
    if not config.tie_word_embeddings:
        tensors[HEAD] = state["head_VD"]
    for ours, names in parts(config).items():
        sizes = [rows for _, rows in names]
        for layer, stacked in enumerate(state[ours]):
            for (name, _), tensor in zip(names, stacked.split(sizes), strict=True):
                tensors[_layer_name(layer, name)] = tensor
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def from_hugging_face(config: ModelConfig, tensors: Mapping[str, Tensor], *, origin: str) -> dict[str, Tensor]:
    """Merge tensors under Hugging Face's names into our parameters.

    Args:
        config: the model's sizes.
        tensors: exactly the names the sizes demand; a tied head may be present if it equals the embedding.
        origin: the file they came from, for messages.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; it is named.
    """
    import torch

    check_tensors(config, tensors, origin=origin)
    state = {"embedding_VD": tensors[EMBEDDING], "final_norm_D": tensors[FINAL_NORM]}
    if not config.tie_word_embeddings:
        state["head_VD"] = tensors[HEAD]
    for ours, names in parts(config).items():
        layers = [
            torch.cat([tensors[_layer_name(layer, name)] for name, _ in names])
            for layer in range(config.num_hidden_layers)
        ]
        state[ours] = torch.stack(layers)
    return state


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return every tensor a model of these sizes has under Hugging Face's names, with its shape."""
    columns = {"down_LDF": config.intermediate_size, "attention_out_LDE": config.num_attention_heads * config.head_dim}
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for layer in range(config.num_hidden_layers):
        for ours, names in parts(config).items():
            for name, rows in names:
                is_vector = "norm" in ours
                shapes[_layer_name(layer, name)] = (
                    (rows,) if is_vector else (rows, columns.get(ours, config.hidden_size))
                )
    shapes[FINAL_NORM] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes[HEAD] = (config.vocab_size, config.hidden_size)
    return shapes


def check_tensors(config: ModelConfig, tensors: Mapping[str, Any], *, origin: str) -> None:
    """Refuse tensors or arrays that are not exactly what the sizes demand, by name; see `from_hugging_face`."""
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, origin=origin)
    if config.tie_word_embeddings and HEAD in tensors and not (tensors[HEAD] == tensors[EMBEDDING]).all():
        raise UserError(
            f"{origin} has a {HEAD} that differs from the embedding although its config.json ties them",
            fix="set tie_word_embeddings to false in config.json, or remove that tensor",
        )


def check_shapes(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], *, origin: str, sizes_from: str = "config.json"
) -> None:
    """Refuse names and shapes that are not exactly what the sizes demand.

    Args:
        config: the model's sizes.
        shapes: of all tensors; a tied head may be among them.
        origin: the file they came from, for messages.
        sizes_from: what the sizes were read from, for messages.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; it is named.
    """
    fix = f"pass the {sizes_from} and weights of one and the same model"
    if config.num_hidden_layers > len(shapes):  # before a name is made for each of a billion layers
        raise UserError(
            f"{origin} has {len(shapes)} tensors, too few for the {config.num_hidden_layers} layers of its "
            f"{sizes_from}",
            fix=fix,
        )
    expected = expected_shapes(config)
    tied_head = {HEAD: expected[EMBEDDING]} if config.tie_word_embeddings else {}
    missing = [name for name in expected if name not in shapes]
    unexpected = [name for name in shapes if name not in {**expected, **tied_head}]
    if missing or unexpected:
        reason = likely_reason(missing, unexpected, expected=expected)
        raise UserError(
            f"{origin} does not match its {sizes_from}: missing {_listing(missing)}; unexpected {_listing(unexpected)}"
            + (f" (likely {reason})" if reason else ""),
            fix=fix,
        )
    for name, shape in {**expected, **tied_head}.items():
        if name in shapes and shapes[name] != shape:
            raise UserError(f"{origin}: {name} has shape {shapes[name]}, its {sizes_from} demands {shape}", fix=fix)


def _layer_name(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{name}.weight"


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_LISTED]) or "nothing"
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown
