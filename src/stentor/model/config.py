"""The sizes of a model, under Hugging Face's names. Importing this file never imports torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stentor.errors import UserError, nearest_name

CARRIERS = ("llama", "qwen3")
EMBEDDING_MULTIPLE = 128
"""Rows of the embedding are padded to this multiple: 8,000 tokens get 8,064 rows, which suits tensor cores."""

MAX_CONTEXT_LENGTH = 1 << 20
"""Tokens; the rotations of every position are kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of a decoder-only transformer that stock Llama and Qwen3 readers can open.

    Attributes:
        carrier: `llama`, or `qwen3`, which adds a learned RMSNorm on each head's queries and keys.
        vocab_size: rows of the embedding; at least the tokenizer's size.
        max_position_embeddings: context length in tokens.
    """

    carrier: str = "llama"
    vocab_size: int = 8064
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 64
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.carrier not in CARRIERS:
            raise UserError(f"no carrier named {self.carrier!r}", fix=nearest_name(self.carrier, CARRIERS))
        for field in fields(self):
            value = getattr(self, field.name)
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and not (value > 0 and math.isfinite(value))
            ):
                raise UserError(f"model.{field.name} is {value}", fix="use a number above zero")
        if self.max_position_embeddings > MAX_CONTEXT_LENGTH:
            raise UserError(
                f"model.max_position_embeddings is {self.max_position_embeddings}",
                fix=f"use a context of at most {MAX_CONTEXT_LENGTH} tokens",
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"{self.num_attention_heads} query heads cannot share {self.num_key_value_heads} key/value heads",
                fix="make num_attention_heads a multiple of num_key_value_heads",
            )
        if self.head_dim % 2:
            raise UserError(f"head_dim {self.head_dim} is odd, and RoPE rotates pairs", fix="use an even head_dim")

    @property
    def has_qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head."""
        return self.carrier == "qwen3"

    @property
    def num_parameters(self) -> int:
        """Number of trained values, a tied embedding counted once."""
        query, key_value = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * query + 2 * key_value) + (2 * self.head_dim if self.has_qk_norm else 0)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + tables + self.hidden_size

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def config_in(path: Path, **sizes: Any) -> ModelConfig:
    """Return the sizes that a file holds; where they cannot be, the file is named."""
    try:
        return ModelConfig(**sizes)
    except UserError as error:
        raise UserError(f"{path}: {error.message}", fix=error.fix) from None


def padded_vocab_size(num_tokens: int) -> int:
    """Return the embedding rows for a tokenizer of `num_tokens`: 8,000 gives 8,064, 2,048 gives 2,048."""
    return -(-num_tokens // EMBEDDING_MULTIPLE) * EMBEDDING_MULTIPLE
