"""The batch of each step, a pure function of (seed, step): a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stentor.config import Recipe
from stentor.shards.format import Shard
from stentor.shards.order import SequenceOrder
from stentor.shards.pack import PackedSequences


@dataclass(frozen=True, slots=True)
class Budget:
    """How many sequences a run processes, and in steps of how many.

    The last step takes what is left: the reference's 240,001,024 tokens are 14,648 steps of 16 sequences and one
    of 8.
    """

    num_sequences: int
    sequences_per_step: int

    @classmethod
    def of(cls, recipe: Recipe) -> Budget:
        """Derive the budget from a recipe, whose token counts are multiples of its context length."""
        context_length = recipe.model.max_position_embeddings
        return cls(recipe.train.tokens // context_length, recipe.train.global_batch_tokens // context_length)

    @property
    def num_steps(self) -> int:
        """Optimizer updates of the whole run."""
        return -(-self.num_sequences // self.sequences_per_step)

    def sequences_before(self, step: int) -> int:
        """Sequences processed before update number `step`."""
        return min(step * self.sequences_per_step, self.num_sequences)


class Batches:
    """Packed sequences of a shard in shuffled order, epoch after epoch."""

    def __init__(self, shard: Shard, recipe: Recipe) -> None:
        self.budget = Budget.of(recipe)
        self.sequences = PackedSequences(shard, recipe.model.max_position_embeddings)
        self._order = SequenceOrder(len(self.sequences), recipe.train.seed)

    @property
    def num_epochs(self) -> float:
        """Times the run sees each sequence."""
        return self.budget.num_sequences / len(self.sequences)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the numbers of the sequences [B] of one step; the last step may have fewer."""
        first, end = self.budget.sequences_before(step), self.budget.sequences_before(step + 1)
        return self._order.indices(first, end - first)

    def of_step(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels [B, T] of one step."""
        input_ids_BT, labels_BT = self.sequences.batch(self.indices(step))
        return torch.from_numpy(input_ids_BT), torch.from_numpy(labels_BT)
