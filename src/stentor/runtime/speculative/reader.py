"""A network that is given whole texts and reads of each only what it has not read before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.runtime.network import CachedNetwork


class Reader:
    """The draft's network, and the tokens that its cache holds.

    Args:
        network: nobody else may use it meanwhile.
        num_tokens: ids that stand for tokens; the logits of those above are left out.
    """

    def __init__(self, network: CachedNetwork, num_tokens: int) -> None:
        self._network, self._num_tokens = network, num_tokens
        self._read_ids: list[int] = []
        self._context_length = network.config.max_position_embeddings

    def logits_after(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits [num_tokens] after a text that fits the context; valid until the next call.

        Raises:
            UserError: they are not numbers.
        """
        start = min(shared_length(self._read_ids, token_ids), len(token_ids) - 1)
        self._read_ids[start:] = token_ids[start:]
        return self._read_from(start)

    def logits_after_one_more(self, token_id: int) -> NDArray[np.float32]:
        """Return the logits after one more token than the last time."""
        self._read_ids.append(token_id)
        return self._read_from(len(self._read_ids) - 1)

    def num_more(self, num_read: int) -> int:
        """Return how many tokens can be predicted one after the other behind a text of so many."""
        return max(0, self._context_length - num_read + 1)

    def _read_from(self, start: int) -> NDArray[np.float32]:
        logits_V = self._network.extend(self._read_ids[start:], start)[0, : self._num_tokens]
        if not logits_V.max() < np.inf:  # NaN is not, either
            raise UserError("the draft's predictions are not numbers", fix="use another draft")
        return logits_V


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two lists have in common at the beginning; quick where they part near the end."""
    length = min(len(first), len(second))
    while first[:length] != second[:length]:
        length -= 1
    return length
