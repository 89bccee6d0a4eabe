"""Initial weights taken from a larger network: the part of it that weighs most.

A channel of the stream is kept or dropped everywhere at once, so that what is kept still fits together: rows and
columns of every matrix, the embedding, norms. Heads and inner units are chosen layer by layer, and layers evenly from
first to last. The network that comes of it predicts badly, but learns on from there sooner than from random weights.

References: Xu et al. 2024, "Initializing Models with Larger Ones", arXiv 2311.18823; Samragh et al. 2023, "Weight
subcloning", arXiv 2312.09299; Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge
Distillation", arXiv 2407.14679 (what weighs most is kept).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.llama import Llama

MATRIX_GAIN, FINAL_GAIN = 1.3, 1.4
"""Raise sums that lost half their terms, chosen once and not tuned: of matrices but queries and keys, and of logits."""
_NO_MORE = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip
_EQUAL = ("head_dim", "vocab_size")


class _Kept(NamedTuple):
    """Indices of what a layer keeps: channels of the stream, groups of a key head with its query heads, inner units."""

    channels_D: Tensor
    groups_K: Tensor
    units_F: Tensor


def require_ancestor(config: ModelConfig, ancestor: ModelConfig) -> None:
    """Refuse a network that no part of another one can become.

    Raises:
        UserError: a size is too small, or not equal where it must be.
    """
    for key in (*_NO_MORE, *_EQUAL):
        has, needs = getattr(ancestor, key), getattr(config, key)
        if has < needs or (key in _EQUAL and has != needs):
            raise UserError(
                f"a model with a {key} of {needs} cannot begin as a part of one with {has}",
                fix="use a larger teacher, or another train.initializer",
            )
    if _group_size(ancestor) < _group_size(config):
        raise UserError(
            f"{_group_size(config)} query heads for each key head cannot be a part of {_group_size(ancestor)}",
            fix="use as many key heads as the teacher has for each query head, or another train.initializer",
        )


def inherit(model: Llama, ancestor: Llama) -> None:
    """Fill all weights of a model in place with a part of a larger one's; the same part on every device.

    Args:
        model: the smaller network.
        ancestor: the larger one; it is not changed.

    Raises:
        UserError: as `require_ancestor`.
    """
    require_ancestor(model.config, ancestor.config)
    given = {name: weight.detach().cpu() for name, weight in ancestor.named_parameters()}
    taken = {name: weight.detach().cpu() for name, weight in model.named_parameters()}
    channels_D = _heaviest(_channel_weights(given), model.config.hidden_size)
    for name in taken.keys() & {"embedding_VD", "head_VD"}:
        taken[name].copy_(given.get(name, given["embedding_VD"])[:, channels_D])
    taken["final_norm_D"].copy_(given["final_norm_D"][channels_D] * FINAL_GAIN)
    layers = torch.linspace(0, ancestor.config.num_hidden_layers - 1, model.config.num_hidden_layers).round().long()
    for place, layer in enumerate(layers.tolist()):
        kept = _kept(given, layer, channels_D, model.config, ancestor.config)
        for name, value in _layer(given, layer, kept, model.config, ancestor.config).items():
            if name in taken:
                taken[name][place] = value
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(taken[name])


def _layer(
    given: dict[str, Tensor], layer: int, kept: _Kept, config: ModelConfig, ancestor: ModelConfig
) -> dict[str, Tensor]:
    """Return what remains of one layer, by parameter."""
    channels_D = kept.channels_D
    q_KGHC, k_KHC, v_KHC = _split_heads(given["qkv_LED"][layer], ancestor)
    q_KGHD = q_KGHC[kept.groups_K, : _group_size(config)][..., channels_D]
    k_KHD, v_KHD = (heads_KHC[kept.groups_K][..., channels_D] for heads_KHC in (k_KHC, v_KHC))
    out_CKGH = _split_out(given["attention_out_LDE"][layer], ancestor)
    out_DKGH = out_CKGH[channels_D][:, kept.groups_K, : _group_size(config)]
    gate_up_2FD = given["gate_up_LFD"][layer].unflatten(0, (2, -1))[:, kept.units_F][..., channels_D]
    matrices = {
        "qkv_LED": torch.cat((q_KGHD.flatten(0, 2), k_KHD.flatten(0, 1), v_KHD.flatten(0, 1) * MATRIX_GAIN)),
        "attention_out_LDE": out_DKGH.flatten(1) * MATRIX_GAIN,
        "gate_up_LFD": gate_up_2FD.flatten(0, 1) * MATRIX_GAIN,
        "down_LDF": given["down_LDF"][layer][channels_D][:, kept.units_F] * MATRIX_GAIN,
    }
    norms = {name: given[name][layer][channels_D] for name in ("attention_norm_LD", "mlp_norm_LD")}
    ones_H = torch.ones(config.head_dim)
    gains = {name: given[name][layer] if name in given else ones_H for name in ("q_norm_LH", "k_norm_LH")}
    return {**matrices, **norms, **gains}


def _kept(
    given: dict[str, Tensor], layer: int, channels_D: Tensor, config: ModelConfig, ancestor: ModelConfig
) -> _Kept:
    """Choose heads by what they read times what they write, and inner units likewise."""
    *_, v_KHC = _split_heads(given["qkv_LED"][layer], ancestor)
    out_CKGH = _split_out(given["attention_out_LDE"][layer], ancestor)
    groups_K = v_KHC.square().sum(dim=(1, 2)) * out_CKGH.square().sum(dim=(0, 2, 3))
    gate_FC, up_FC = given["gate_up_LFD"][layer].unflatten(0, (2, -1))
    units_F = up_FC.square().sum(dim=1) * gate_FC.square().sum(dim=1) * given["down_LDF"][layer].square().sum(dim=0)
    return _Kept(
        channels_D, _heaviest(groups_K, config.num_key_value_heads), _heaviest(units_F, config.intermediate_size)
    )


def _channel_weights(given: dict[str, Tensor]) -> Tensor:
    """Return how much of the stream each channel carries: a share of the embedding and one of what layers add."""
    embedding_C = given["embedding_VD"].square().sum(dim=0)
    added_C = given["attention_out_LDE"].square().sum(dim=(0, 2)) + given["down_LDF"].square().sum(dim=(0, 2))
    return embedding_C / embedding_C.sum() + added_C / added_C.sum()


def _heaviest(weights: Tensor, count: int) -> Tensor:
    """Return the indices of the largest, in their order."""
    return weights.topk(count).indices.sort().values


def _split_heads(qkv_ED: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [K, G, H, D] in groups of a key head, keys and values [K, H, D]."""
    query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    q_ED, k_ED, v_ED = qkv_ED.split((query, key_value, key_value))
    shape = config.num_key_value_heads, config.head_dim
    return q_ED.unflatten(0, (shape[0], -1, shape[1])), k_ED.unflatten(0, shape), v_ED.unflatten(0, shape)


def _split_out(out_DE: Tensor, config: ModelConfig) -> Tensor:
    """Return the output's columns by group and head [D, K, G, H]."""
    return out_DE.unflatten(1, (config.num_key_value_heads, -1, config.head_dim))


def _group_size(config: ModelConfig) -> int:
    return config.num_attention_heads // config.num_key_value_heads
