"""An exponential mean of the weights over the last updates: less noise than the weights of any one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The mean, beside the weights that are trained.

    Args:
        model: the network.
        decay: share of the past in the mean; early in a run less, so that it forgets the beginning.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = dict(model.named_parameters())
        self.means = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, count: Tensor, applies: Tensor) -> None:
        """Move the mean towards the weights.

        Args:
            count: updates so far, the one just made included.
            applies: where false, the mean stays as it is.
        """
        share = torch.clamp(9 / (10 + count), min=1 - self._decay) * applies
        for name, mean in self.means.items():
            mean.lerp_(self._weights[name].detach(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the network have the mean as its weights for a while."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, mean in self.means.items():
            kept = self._weights[name].detach().clone()
            self._weights[name].copy_(mean)
            mean.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        """Return the mean of each weight by name."""
        return {f"mean.{name}": mean for name, mean in self.means.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same names and shapes."""
        for name, mean in self.means.items():
            mean.copy_(tensors[f"mean.{name}"])
