"""The same bits from every run of a recipe on the same GPU, where kernels are usually free to add in any order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Let torch use only kernels that add in a fixed order, until the block ends.

    Attention's backward pass and the embedding's are the ones that differ: others serve, a little slower.
    """
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS reads it when its first product runs
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
