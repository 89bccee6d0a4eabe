"""A draft without a model: what came after the same few tokens the last time.

Reference: Saxena 2023, "Prompt Lookup Decoding".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stentor.runtime.sampling import SamplingState
from stentor.runtime.speculative.verification import Proposal

MIN_MATCH = 2
MAX_MATCH = 8


class LookupDraft:
    """Proposes the continuation of the longest match of the text's end in the text, of equals the latest.

    Matches are of `MIN_MATCH` to `MAX_MATCH` tokens.
    """

    method = "lookup"

    def __init__(self) -> None:
        self._next_place: dict[tuple[int, ...], int] = {}
        self._num_known = 0

    def propose(
        self, token_ids: Sequence[int], state: SamplingState, num_steps: int, generator: np.random.Generator
    ) -> Proposal:
        """Return the `num_steps` tokens that followed the last few before; none where these are new."""
        self._follow(token_ids)
        for size in range(min(MAX_MATCH, len(token_ids) - 1), MIN_MATCH - 1, -1):
            place = self._next_place.get(tuple(token_ids[-size:]))
            if place is not None:
                found: list[int] = []
                for source in range(place, place + num_steps):
                    # A text that repeats itself goes on to do so: behind its end comes what has just been found.
                    found.append(token_ids[source] if source < len(token_ids) else found[source - len(token_ids)])
                return Proposal(found, num_steps=num_steps)
        return Proposal([])

    def _follow(self, token_ids: Sequence[int]) -> None:
        """Note, for each new token, which tokens it came after."""
        for place in range(self._num_known, len(token_ids)):
            for size in range(MIN_MATCH, min(MAX_MATCH, place) + 1):
                self._next_place[tuple(token_ids[place - size : place])] = place
        self._num_known = len(token_ids)
