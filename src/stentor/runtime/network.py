"""What generation and scoring need of a network, wherever it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.config import ModelConfig

if TYPE_CHECKING:
    from stentor.runtime.continuation import Request


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
        with others has the logits it would have had alone. They are valid until the next call, and may be written to.

        Args:
            token_ids: any number of them, at least one.
            start: position of the first; what was remembered from there on is forgotten.
            all_scored: whether the logits after every token are wanted, or after the last alone.
            sequence: that they belong to, where the network remembers several.

        Raises:
            UserError: a token is unknown to the vocabulary, or lies beyond the context.
        """
        ...

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read one token of each of some sequences, and return the logits after each [K, V], as `extend` would.

        Args:
            token_ids: one for each sequence that goes on.
            positions: of each token in its sequence.
            sequences: which ones these are.
        """
        ...

    def share(self, length: int) -> None:
        """Let every sequence begin with what the first one has read, so many tokens of it."""
        ...

    def fresh(self, num_sequences: int = 1) -> CachedNetwork:
        """Return a network of the same weights that has read nothing: one for each text that is being made.

        Args:
            num_sequences: that it can remember.
        """
        ...

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets, as `model.measure.Scorer` says; what the network remembers stays as it is."""
        ...


NO_NUMBERS, NONE_LEFT = -1, -2
"""Drawn in place of a token: where logits are not numbers, and where every token is forbidden."""


@runtime_checkable
class DrawingNetwork(CachedNetwork, Protocol):
    """A network that also draws tokens, where its logits are: they need not be fetched from a GPU, nor waited for."""

    def drawn(self, request: Request, generators: Sequence[np.random.Generator]) -> Iterator[list[int]]:
        """Yield the next token of each continuation of a request, step after step.

        They are those that `sampling.sample` would draw, as many steps as the request and the context allow; where
        there is none to draw, `NO_NUMBERS` or `NONE_LEFT`. Those of a continuation that has ended mean nothing.

        Args:
            request: what is continued; this network remembers as many sequences as there are continuations.
            generators: random numbers of each continuation.
        """
        ...


def require_readable(config: ModelConfig, token_ids: Sequence[int], first: int, last: int) -> None:
    """Refuse tokens that a network has no embedding or no position for.

    Args:
        config: its sizes.
        token_ids: all that are to be read.
        first: the lowest position among them.
        last: the highest.
    """
    lowest, highest = min(token_ids), max(token_ids)
    if lowest < 0 or highest >= config.vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise UserError(
            f"the token id {wrong} is outside the model's vocabulary of {config.vocab_size} tokens",
            fix="pass ids of the tokenizer the model was trained with",
        )
    if first < 0 or last >= config.max_position_embeddings:
        raise UserError(
            f"position {first if first < 0 else last} is outside the model's context of "
            f"{config.max_position_embeddings} tokens",
            fix="read fewer tokens",
        )
