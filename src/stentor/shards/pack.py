"""Token ids cut into sequences of the context length: no token lost, none twice, only the very end padded.

Labels equal inputs; the loss shifts them. B sequences, T tokens (the context length), N sequences of a shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.shards.format import Shard

IGNORED_LABEL = -100
"""The label that the loss skips, as everywhere in torch and transformers."""


class PackedSequences:
    """A shard seen as ceil(num_tokens / context_length) sequences; the last one is padded with EOS.

    Args:
        shard: token ids.
        context_length: tokens per sequence.
    """

    def __init__(self, shard: Shard, context_length: int) -> None:
        self._context_length = context_length
        self._num_full, self._tail_tokens = divmod(shard.num_tokens, context_length)
        self._full_NT = shard.token_ids[: self._num_full * context_length].reshape(-1, context_length)
        self._last_T = np.full(context_length, shard.eos_token_id, dtype=np.int64)
        self._last_T[: self._tail_tokens] = shard.token_ids[self._num_full * context_length :]

    def __len__(self) -> int:
        return self._num_full + (self._tail_tokens > 0)

    def sequence(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the inputs and labels of one sequence, int64 [T] each."""
        input_ids_BT, labels_BT = self.batch(np.array([index]))
        return input_ids_BT[0], labels_BT[0]

    def batch(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the inputs and labels of the sequences of these numbers, int64 [B, T] each.

        Raises:
            IndexError: a number is negative or not below the length.
        """
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"sequences are numbered 0 to {len(self) - 1}, asked for {indices.min()}..{indices.max()}")
        is_full_B = indices < self._num_full
        input_ids_BT = np.empty((len(indices), self._context_length), dtype=np.int64)
        input_ids_BT[is_full_B] = self._full_NT[indices[is_full_B]]
        input_ids_BT[~is_full_B] = self._last_T
        labels_BT = input_ids_BT.copy()
        labels_BT[~is_full_B, self._tail_tokens :] = IGNORED_LABEL
        return input_ids_BT, labels_BT


def pack_documents(
    documents_ids: Iterable[Sequence[int]], *, context_length: int, eos_token_id: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pack a stream of documents: the same sequences as `PackedSequences` gives of their shard.

    Args:
        documents_ids: ids of each document, without EOS; EOS is put after each.
        context_length: tokens per sequence.
        eos_token_id: also fills the last sequence, where labels are -100.

    Yields:
        Inputs and labels, int64 [T] each. What a document leaves over begins the next sequence.
    """
    remainder: list[int] = []
    for ids in documents_ids:
        remainder += ids
        remainder.append(eos_token_id)
        num_whole = len(remainder) // context_length * context_length
        for start in range(0, num_whole, context_length):
            input_ids_T = np.array(remainder[start : start + context_length], dtype=np.int64)
            yield input_ids_T, input_ids_T.copy()
        del remainder[:num_whole]
    if remainder:
        input_ids_T = np.full(context_length, eos_token_id, dtype=np.int64)
        input_ids_T[: len(remainder)] = remainder
        labels_T = input_ids_T.copy()
        labels_T[len(remainder) :] = IGNORED_LABEL
        yield input_ids_T, labels_T


def require_tokens(shard: Shard, context_length: int) -> None:
    """Refuse a shard that does not fill a single sequence.

    Raises:
        UserError: with both numbers.
    """
    if shard.num_tokens < context_length:
        raise UserError(
            f"{shard.path} has {shard.num_tokens} tokens, one sequence takes {context_length}",
            fix="give more text, or set model.max_position_embeddings to a shorter context",
        )
