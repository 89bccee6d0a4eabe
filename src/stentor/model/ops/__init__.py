"""Operations of the network, each once in plain torch, and once as fused kernels with their gradient.

The plain one defines what is computed and runs everywhere; `way_of` says where kernels take its place. What a network
of this size spends is mostly the passing of memory, on a GPU and on a CPU alike, so every fused one reads and writes
each tensor once. Shapes: B batch, T tokens, N tokens of a batch in all, D hidden, E merged heads, F feed-forward, V
vocabulary, H head dim; for heads, N queries and K keys and values.
"""

from __future__ import annotations

from stentor.model.ops.attention import attend_causally
from stentor.model.ops.cached_attention import IDLE, attend_cached
from stentor.model.ops.cross_entropy import IGNORED_LABEL, linear_cross_entropy
from stentor.model.ops.distillation import linear_distillation, linear_distillation_of_few
from stentor.model.ops.embedding import embed
from stentor.model.ops.heads import head_gains, rotate, turn_heads
from stentor.model.ops.norm import add_rms_norm, norm_gains, rms_norm
from stentor.model.ops.products import linear, unstacked
from stentor.model.ops.swiglu import swiglu
from stentor.model.ops.way import Way, way_of

__all__ = [
    "IDLE",
    "IGNORED_LABEL",
    "Way",
    "add_rms_norm",
    "attend_cached",
    "attend_causally",
    "embed",
    "head_gains",
    "linear",
    "linear_cross_entropy",
    "linear_distillation",
    "linear_distillation_of_few",
    "norm_gains",
    "rms_norm",
    "rotate",
    "swiglu",
    "turn_heads",
    "unstacked",
    "way_of",
]
