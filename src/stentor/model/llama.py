"""The network: a Llama decoder, with Qwen3's per-head query/key norms as an option.

Parameters of all layers are stacked along a leading dimension, queries, keys and values are one matrix, and so
are gate and up: few large tensors make optimizers and copies cheap. `names.py` maps them to Hugging Face's names.

Shapes: B batch, T query tokens, S key tokens, L layers, D hidden, N query heads, K key/value heads, H head
dim, F feed-forward, V vocabulary, E = (N + 2K) * H rows of the merged query/key/value matrix.

Reference: Touvron et al. 2023, "LLaMA", arXiv 2302.13971; what it is made of is cited where it is, in `ops`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stentor.model.config import ModelConfig
from stentor.model.numerics import Numerics
from stentor.model.ops import (
    Way,
    add_rms_norm,
    attend_causally,
    embed,
    head_gains,
    linear,
    norm_gains,
    swiglu,
    turn_heads,
    way_of,
)

LayerWatch = Callable[[Tensor, Tensor, Tensor], None]
"""Shown what each layer made, all [B, T, D]: its attention's output, its MLP's, and the sum it passes on."""
LayerAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Given a layer's number, queries [B, N, T, H], keys and values [B, K, T, H]; returns what they attend to [B, T, E]."""


class LayerWeights(NamedTuple):
    """One layer's parameters, matrices in the type of their products."""

    attention_norm: Tensor
    mlp_norm: Tensor
    qkv_ED: Tensor
    attention_out_DE: Tensor
    gate_up_FD: Tensor
    down_DF: Tensor
    head_gains: tuple[Tensor, Tensor] | None


class KeyValueCache:
    """Keys and values of the tokens seen so far, preallocated for a whole context and one token more.

    Args:
        config: the model's sizes.
        batch_size: sequences decoded side by side, all of the same length.
        dtype: of the stored keys and values.
        device: where they live.
    """

    def __init__(self, config: ModelConfig, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (
            config.num_hidden_layers,
            batch_size,
            config.num_key_value_heads,
            config.max_position_embeddings + 1,  # the last place takes what `attend_cached` must not keep
            config.head_dim,
        )
        self.k_LBKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.v_LBKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def extend(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values and return all of that layer's so far."""
        end = self.length + k_BKTH.shape[2]
        self.k_LBKSH[layer, :, :, self.length : end] = k_BKTH
        self.v_LBKSH[layer, :, :, self.length : end] = v_BKTH
        return self.k_LBKSH[layer, :, :, :end], self.v_LBKSH[layer, :, :, :end]

    def of(self, sequence: int, length: int) -> KeyValueCache:
        """Return the cache of one of the sequences, which has so many tokens; the memory is the same."""
        part = copy.copy(self)
        part.k_LBKSH, part.v_LBKSH = (x[:, sequence : sequence + 1] for x in (self.k_LBKSH, self.v_LBKSH))
        part.length = length
        return part


class Llama(nn.Module):
    """A decoder-only transformer whose weights are left unset until `init.initialize` or a state dict fills them."""

    cos_TH: Tensor
    sin_TH: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.numerics = Numerics()
        layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
        query_width = config.num_attention_heads * config.head_dim
        merged_width = query_width + 2 * config.num_key_value_heads * config.head_dim
        self.embedding_VD = nn.Parameter(torch.zeros(config.vocab_size, hidden))
        self.attention_norm_LD = nn.Parameter(torch.ones(layers, hidden))
        self.qkv_LED = nn.Parameter(torch.zeros(layers, merged_width, hidden))
        self.attention_out_LDE = nn.Parameter(torch.zeros(layers, hidden, query_width))
        self.mlp_norm_LD = nn.Parameter(torch.ones(layers, hidden))
        self.gate_up_LFD = nn.Parameter(torch.zeros(layers, 2 * inner, hidden))
        self.down_LDF = nn.Parameter(torch.zeros(layers, hidden, inner))
        self.final_norm_D = nn.Parameter(torch.ones(hidden))
        if config.has_qk_norm:
            self.q_norm_LH = nn.Parameter(torch.ones(layers, config.head_dim))
            self.k_norm_LH = nn.Parameter(torch.ones(layers, config.head_dim))
        if not config.tie_word_embeddings:
            self.head_VD = nn.Parameter(torch.zeros(config.vocab_size, hidden))
        cos_TH, sin_TH = rotary_tables(config)
        self.register_buffer("cos_TH", cos_TH, persistent=False)
        self.register_buffer("sin_TH", sin_TH, persistent=False)

    def forward(
        self, input_ids_BT: Tensor, *, cache: KeyValueCache | None = None, document_ids_BT: Tensor | None = None
    ) -> Tensor:
        """Return the logits of each next token.

        Args:
            input_ids_BT: token ids.
            cache: earlier tokens' keys and values; these tokens are added to it.
            document_ids_BT: attention stays among tokens of equal number; None attends to everything before.

        Returns:
            Logits [B, T, V], unnormalised log-probabilities in nats.
        """
        return self.logits(self.hidden(input_ids_BT, cache=cache, document_ids_BT=document_ids_BT))

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Project hidden states to the vocabulary."""
        weight_VD = self.head_weight_VD
        return F.linear(x_BTD.to(weight_VD.dtype), weight_VD)

    @property
    def head_weight_VD(self) -> Tensor:
        """What hidden states are compared with to give logits, as the product sees it."""
        return self.numerics.head(self.embedding_VD if self.config.tie_word_embeddings else self.head_VD, way=self.way)

    @property
    def way(self) -> Way:
        """How operations are computed here."""
        return way_of(self.numerics.compute_dtype, self.embedding_VD.device)

    def hidden(
        self,
        input_ids_BT: Tensor,
        *,
        cache: KeyValueCache | None = None,
        document_ids_BT: Tensor | None = None,
        watch: LayerWatch | None = None,
    ) -> Tensor:
        """Return the normalised output of the last layer [B, T, D]; arguments as in `forward`.

        `watch` is called after each layer, first to last.
        """
        start = cache.length if cache else 0
        num_tokens = input_ids_BT.shape[1]
        rotary = self.cos_TH[start : start + num_tokens], self.sin_TH[start : start + num_tokens]
        mask, way = attention_mask(start, num_tokens, document_ids_BT, device=input_ids_BT.device), self.way

        def attended(layer: int, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor) -> Tensor:
            return attend(q_BNTH, k_BKTH, v_BKTH, mask=mask, cache=cache, layer=layer, way=way)

        x_BTD = self.through_layers(input_ids_BT, self.layers(), rotary, attended, watch=watch)
        if cache:
            cache.length += num_tokens
        return x_BTD

    def through_layers(
        self,
        input_ids_BT: Tensor,
        layers: Iterable[LayerWeights],
        rotary: tuple[Tensor, Tensor],
        attended: LayerAttention,
        *,
        watch: LayerWatch | None = None,
    ) -> Tensor:
        """Return the normalised output of the last layer [B, T, D], however its layers attend.

        Args:
            input_ids_BT: token ids.
            layers: from `layers`.
            rotary: cosines and sines [T, H] of the tokens' positions.
            attended: what each layer attends to.
            watch: called after each layer.
        """
        way, delta_BTD = self.way, None
        x_BTD = embed(input_ids_BT, self.embedding_VD, dtype=self.numerics.stream_dtype, way=way)
        for layer, weights in enumerate(layers):
            x_BTD, h_BTD = self._add_norm(x_BTD, delta_BTD, weights.attention_norm, weights.qkv_ED.dtype)
            heads = turn_heads(
                linear(h_BTD, weights.qkv_ED, way=way),
                rotary,
                weights.head_gains,
                num_heads=(self.config.num_attention_heads, self.config.num_key_value_heads),
                eps=self.config.rms_norm_eps,
                way=way,
            )
            attended_BTD = linear(attended(layer, *heads), weights.attention_out_DE, way=way)
            x_BTD, h_BTD = self._add_norm(x_BTD, attended_BTD, weights.mlp_norm, weights.gate_up_FD.dtype)
            inner_BTF = swiglu(linear(h_BTD, weights.gate_up_FD, way=way), way=way)
            delta_BTD = linear(inner_BTF, weights.down_DF, way=way)
            if watch:
                watch(attended_BTD, delta_BTD, x_BTD + delta_BTD)
        (final_norm,) = norm_gains(self.final_norm_D[None], way=way)
        return self._add_norm(x_BTD, delta_BTD, final_norm, self.numerics.stream_dtype)[1]

    def _add_norm(
        self, x_BTD: Tensor, delta_BTD: Tensor | None, gain: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        return add_rms_norm(x_BTD, delta_BTD, gain, eps=self.config.rms_norm_eps, dtype=dtype, way=self.way)

    def layers(self) -> Iterator[LayerWeights]:
        """Yield the weights of each layer as its operations see them, converted once."""
        # Unbinding once gives one backward pass per stack; indexing each layer would write the whole stack L times.
        norms = [norm_gains(stacked_LD, way=self.way) for stacked_LD in (self.attention_norm_LD, self.mlp_norm_LD)]
        matrices = (self.qkv_LED, self.attention_out_LDE, self.gate_up_LFD, self.down_LDF)
        of_layers = [self.numerics.layers(stacked_LRC, way=self.way) for stacked_LRC in matrices]
        for values in zip(*norms, *of_layers, self._head_gains(), strict=True):
            yield LayerWeights(*values)

    def _head_gains(self) -> Iterable[tuple[Tensor, Tensor] | None]:
        config = self.config
        if not config.has_qk_norm:
            return repeat(None, config.num_hidden_layers)
        q_gains = head_gains(self.q_norm_LH, config.num_attention_heads, way=self.way)
        k_gains = head_gains(self.k_norm_LH, config.num_key_value_heads, way=self.way)
        return zip(q_gains, k_gains, strict=True)


def attend(
    q_BNTH: Tensor,
    k_BKTH: Tensor,
    v_BKTH: Tensor,
    *,
    mask: Tensor | None,
    cache: KeyValueCache | None,
    layer: int,
    way: Way,
) -> Tensor:
    """Attend within one layer, K key/value heads shared by N query heads; returns [B, T, N * H]."""
    if cache is None and mask is None:
        return attend_causally(q_BNTH, k_BKTH, v_BKTH, way=way)
    k_BKSH, v_BKSH = cache.extend(layer, k_BKTH, v_BKTH) if cache else (k_BKTH, v_BKTH)
    out_BNTH = F.scaled_dot_product_attention(
        q_BNTH.to(v_BKSH.dtype),
        k_BKSH.to(v_BKSH.dtype),
        v_BKSH,
        attn_mask=mask,
        is_causal=mask is None and q_BNTH.shape[2] > 1,
        enable_gqa=q_BNTH.shape[1] != k_BKSH.shape[1],
    )
    return out_BNTH.transpose(1, 2).flatten(2)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [context, H] of RoPE in the half-rotated layout of Hugging Face's Llama."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    angles = torch.outer(torch.arange(config.max_position_embeddings, dtype=torch.float32), frequencies)
    angles_TH = torch.cat((angles, angles), dim=-1)
    return angles_TH.cos(), angles_TH.sin()


def attention_mask(
    start: int, num_tokens: int, document_ids_BT: Tensor | None, *, device: torch.device
) -> Tensor | None:
    """Return where attention is allowed (True), or None where plain causal attention says it all.

    Args:
        start: tokens already in the cache.
        num_tokens: new tokens.
        document_ids_BT: the document of each token; only without a cache.
        device: of the mask.
    """
    if document_ids_BT is not None:
        same_BTS = document_ids_BT[:, :, None] == document_ids_BT[:, None, :]
        return same_BTS.tril()[:, None]
    if start == 0 or num_tokens == 1:
        return None
    return torch.ones(num_tokens, start + num_tokens, dtype=torch.bool, device=device).tril(diagonal=start)


def document_ids(input_ids_BT: Tensor, eos_token_id: int) -> Tensor:
    """Number the documents of packed sequences; an EOS opens the next document, whose first token it predicts."""
    return (input_ids_BT == eos_token_id).cumsum(dim=1)
