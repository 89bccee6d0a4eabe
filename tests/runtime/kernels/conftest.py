"""Arrays that kernels may be given the addresses of."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def random() -> np.random.Generator:
    """Return the same numbers in every run."""
    return np.random.default_rng(7)
