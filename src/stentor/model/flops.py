"""What training costs in floating-point operations, and what a device could do at most: their ratio is MFU.

Model FLOP utilisation counts what the model needs, not what is computed; dense peaks are those of 16-bit products that
add up in float32, from the vendors' data sheets, without sparsity. An unknown device has no peak here.
"""

from __future__ import annotations

import re

from stentor.model.config import ModelConfig

_TERA = 1e12
_NEVER_BFLOAT16 = r"(Tesla )?(T4|V100.*)"
"""Older than Ampere: no products in bfloat16."""
_DENSE_TERAFLOPS: tuple[tuple[str, float], ...] = (
    (r"(Tesla|NVIDIA) T4", 65),
    (r"(Tesla )?V100-SXM[23]-.*", 125),
    (r"(Tesla )?V100-PCIE-.*", 112),
    (r"(NVIDIA )?A100(-SXM4-|-PCIE-| )(40|80)GB( PCIe)?", 312),
    (r"NVIDIA A10", 125),
    (r"NVIDIA L4", 121),
    (r"NVIDIA GeForce RTX 3090", 71),
    (r"NVIDIA GeForce RTX 4090", 165),
    (r"NVIDIA H100 PCIe", 756),
    (r"NVIDIA H100( 80GB HBM3)?", 989),
    (r"NVIDIA H200", 989),
    (r"NVIDIA B200", 2250),
)
"""Peaks by the name that CUDA gives a whole device; a slice of one (MIG) has another name, and no entry."""


def training_flops_per_token(config: ModelConfig) -> int:
    """Return the floating-point operations of a forward and backward pass, per token of a full context.

    Each value of a matrix takes a multiplication and an addition in the forward pass and twice that in the backward
    pass: 6 P. So does attention for each key a query sees, once for the scores and once for their mean of the values:
    12 L T D, D the width of all query heads. A causal query sees half of the context on average: 6 L T D. Norms,
    activations, the lookup of embeddings and the optimizer are not counted.

    Reference: Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B, whose attention is halved here.
    """
    query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * query + 2 * key_value)
    layer = attention + 3 * config.hidden_size * config.intermediate_size
    matrices = config.num_hidden_layers * layer + config.vocab_size * config.hidden_size
    return 6 * (matrices + config.num_hidden_layers * config.max_position_embeddings * query)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return the most dense floating-point operations a second that a device's data sheet promises.

    Args:
        device_name: as CUDA names it, such as `NVIDIA H100 80GB HBM3`.
        precision: of products: `float16`, `bfloat16` or `float32`.

    Returns:
        None for products in float32 and for a device that is not in the table: nothing is guessed.
    """
    if precision not in ("float16", "bfloat16"):
        return None
    if precision == "bfloat16" and re.fullmatch(_NEVER_BFLOAT16, device_name):
        return None
    found = (teraflops for pattern, teraflops in _DENSE_TERAFLOPS if re.fullmatch(pattern, device_name))
    return next((teraflops * _TERA for teraflops in found), None)
