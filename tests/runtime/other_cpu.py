"""Print the logits of a small network of every dtype, as the CPU that numba was told of computes them.

usage: NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+f16c python other_cpu.py
"""

from __future__ import annotations

import sys

import numpy as np

from stentor.model.config import ModelConfig
from stentor.model.names import expected_shapes
from stentor.runtime.cpu import CpuNetwork

CONFIG = ModelConfig(
    vocab_size=300,
    hidden_size=96,
    intermediate_size=200,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=24,
    max_position_embeddings=64,
    carrier="qwen3",
)
DTYPES = (("float32", "float32"), ("int8", "int8"), ("int4", "int8"))


def logits() -> np.ndarray:
    """Return float32 [dtype, token, V]."""
    random = np.random.default_rng(0)
    tensors = {
        name: (0.3 * random.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
        for name, shape in expected_shapes(CONFIG).items()
    }
    token_ids = random.integers(0, CONFIG.vocab_size, 40).tolist()
    networks = (CpuNetwork(CONFIG, tensors, dtype=dtype, cache_dtype=cache_dtype) for dtype, cache_dtype in DTYPES)
    return np.stack([network.logits(token_ids, range(40)) for network in networks])


if __name__ == "__main__":
    sys.stdout.buffer.write(logits().tobytes())
