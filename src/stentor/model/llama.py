"""The network: a Llama decoder, with Qwen3's per-head query/key norms as an option.

Parameters of all layers are stacked along a leading dimension, queries, keys and values are one matrix, and so
are gate and up: few large tensors make optimizers and copies cheap. `names.py` maps them to Hugging Face's names.

Shapes: B batch, T query tokens, S key tokens, L layers, D hidden, N query heads, K key/value heads, H head
dim, F feed-forward, V vocabulary, E = (N + 2K) * H rows of the merged query/key/value matrix.

References: Touvron et al. 2023, "LLaMA", arXiv 2302.13971; Su et al. 2021, "RoFormer" (RoPE), arXiv 2104.09864;
Zhang and Sennrich 2019, "RMSNorm", arXiv 1910.07467; Shazeer 2020, "GLU Variants", arXiv 2002.05202; Ainslie et
al. 2023, "GQA", arXiv 2305.13245.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stentor.model.config import ModelConfig


class KeyValueCache:
    """Keys and values of the tokens seen so far, preallocated for a whole context.

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
            config.max_position_embeddings,
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


class Llama(nn.Module):
    """A decoder-only transformer whose weights are left unset until `init.initialize` or a state dict fills them."""

    cos_TH: Tensor
    sin_TH: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
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
        return F.linear(x_BTD, self.embedding_VD if self.config.tie_word_embeddings else self.head_VD)

    def hidden(
        self, input_ids_BT: Tensor, *, cache: KeyValueCache | None = None, document_ids_BT: Tensor | None = None
    ) -> Tensor:
        """Return the normalised output of the last layer [B, T, D]; arguments as in `forward`."""
        start = cache.length if cache else 0
        num_tokens = input_ids_BT.shape[1]
        rotary = self.cos_TH[start : start + num_tokens], self.sin_TH[start : start + num_tokens]
        mask = attention_mask(start, num_tokens, document_ids_BT, device=input_ids_BT.device)
        x_BTD = F.embedding(input_ids_BT, self.embedding_VD)
        # Unbinding once gives one backward pass per stack; indexing each layer would write the whole stack L times.
        layers = zip(
            self.attention_norm_LD.unbind(),
            self.qkv_LED.unbind(),
            self.attention_out_LDE.unbind(),
            self.mlp_norm_LD.unbind(),
            self.gate_up_LFD.unbind(),
            self.down_LDF.unbind(),
            strict=True,
        )
        for layer, (norm_D, qkv_ED, out_DE, mlp_norm_D, gate_up_FD, down_DF) in enumerate(layers):
            h_BTD = self._norm(x_BTD, norm_D)
            x_BTD = x_BTD + F.linear(self._attend(layer, F.linear(h_BTD, qkv_ED), rotary, mask, cache), out_DE)
            gate_BTF, up_BTF = F.linear(self._norm(x_BTD, mlp_norm_D), gate_up_FD).chunk(2, dim=-1)
            x_BTD = x_BTD + F.linear(F.silu(gate_BTF) * up_BTF, down_DF)
        if cache:
            cache.length += num_tokens
        return self._norm(x_BTD, self.final_norm_D)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.rms_norm_eps)

    def _attend(
        self,
        layer: int,
        qkv_BTE: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """Attend within one layer; returns [B, T, N * H]."""
        config, heads = self.config, qkv_BTE.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
        query_heads, key_heads = config.num_attention_heads, config.num_key_value_heads
        q_BNTH, k_BKTH, v_BKTH = heads.split((query_heads, key_heads, key_heads), dim=1)
        if config.has_qk_norm:
            q_BNTH, k_BKTH = self._norm(q_BNTH, self.q_norm_LH[layer]), self._norm(k_BKTH, self.k_norm_LH[layer])
        q_BNTH, k_BKTH = rotate(q_BNTH, *rotary), rotate(k_BKTH, *rotary)
        k_BKSH, v_BKSH = cache.extend(layer, k_BKTH, v_BKTH) if cache else (k_BKTH, v_BKTH)
        out_BNTH = F.scaled_dot_product_attention(
            q_BNTH.to(v_BKSH.dtype),
            k_BKSH.to(v_BKSH.dtype),
            v_BKSH,
            attn_mask=mask,
            is_causal=mask is None and q_BNTH.shape[2] > 1,
            enable_gqa=query_heads != key_heads,
        )
        return out_BNTH.transpose(1, 2).flatten(2)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [context, H] of RoPE in the half-rotated layout of Hugging Face's Llama."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    angles = torch.outer(torch.arange(config.max_position_embeddings, dtype=torch.float32), frequencies)
    angles_TH = torch.cat((angles, angles), dim=-1)
    return angles_TH.cos(), angles_TH.sin()


def rotate(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Rotate each pair (i, i + H/2) by its position's angle (Su et al. 2021, eq. 34)."""
    first, second = x_BNTH.chunk(2, dim=-1)
    return x_BNTH * cos_TH + torch.cat((-second, first), dim=-1) * sin_TH


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
