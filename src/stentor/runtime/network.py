"""What generation and scoring need of a network, wherever it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stentor.model.config import ModelConfig


class CachedNetwork(Protocol):
    """A network that remembers the tokens it has read, so that each is read once.

    Attributes:
        config: its sizes.
    """

    config: ModelConfig

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens after those before `start`, and return the logits after the last of them [1, V], or each [K, V].

        The logits of a token do not depend on how many are read at once, so a token that was guessed and read together
        with others has the logits it would have had alone. They are valid until the next call.

        Args:
            token_ids: any number of them, at least one, known to the vocabulary; they must fit the context.
            start: position of the first; what was remembered from there on is forgotten.
            all_scored: whether the logits after every token are wanted, or after the last alone.
            sequence: that they belong to, where the network remembers several.
        """
        ...
