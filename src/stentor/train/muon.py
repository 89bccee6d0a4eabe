"""Muon: the momentum of each layer's matrices made orthogonal, so that every direction is learned at the same pace.

Matrices of one shape are made orthogonal together in a few large batched products. Each row (each output channel) is
then scaled by a running mean of its own squares, which evens out channels without changing the size of the update.

References: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Amsel et al. 2025, "The Polar
Express", arXiv 2505.16932 (the coefficients, for a bound of 1.02); Li et al. 2025, "NorMuon", arXiv 2510.05491 (rows);
Chen et al. 2025, "Cautious Weight Decay", arXiv 2510.12402.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from stentor.model.config import ModelConfig
from stentor.model.names import parts

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
SECOND_MOMENT_DECAY = 0.95
_BOUND, _TINY = 1.02, 1e-20


class _Place(NamedTuple):
    """Where a kind of matrix, such as all keys, lies in a stacked parameter [L, rows, in]."""

    name: str
    start: int
    end: int


def matrix_places(config: ModelConfig) -> list[_Place]:
    """Return every kind of matrix of the layers, merged ones taken apart."""
    places = []
    for name, merged in parts(config).items():
        start = 0
        for _, rows in merged if "norm" not in name else ():
            places.append(_Place(name, start, start + rows))
            start += rows
    return places


class Muon:
    """The optimizer of the layers' matrices.

    Args:
        config: sizes of the model.
        weights: the stacked parameters [L, rows, in] by name; updated in place.
        dtype: in which matrices are made orthogonal.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Tensor], *, dtype: torch.dtype) -> None:
        self._places = matrix_places(config)
        self._weights = {place.name: weights[place.name] for place in self._places}
        self._dtype = dtype
        self.momenta = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}
        self.second_moments = {name: weight.new_zeros(*weight.shape[:2], 1) for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(
        self,
        grads: Mapping[str, Tensor],
        *,
        lr: Tensor,
        momentum: Tensor,
        weight_decay: Tensor,
        grad_scale: Tensor,
        applies: Tensor,
    ) -> None:
        """Update all matrices; where `applies` is false, nothing changes.

        Args:
            grads: of the stacked parameters, by name.
            lr: step size of a square matrix.
            momentum: share of the past in the momentum; Nesterov's look-ahead is taken.
            weight_decay: pulled from weights, in units of `lr`, where that agrees with the update's direction.
            grad_scale: gradients are divided by it.
            applies: false where a gradient is no number.
        """
        directions = self._directions(grads, momentum, grad_scale, applies)
        for places in self._by_shape().values():
            merged_MRC = torch.cat([self._oriented(directions[place.name], place) for place in places])
            for place, update_LRC in zip(places, polar(merged_MRC).split(self._layers), strict=True):
                self._apply(place, self._restored(update_LRC, place), lr, weight_decay, applies)

    @property
    def _layers(self) -> int:
        return next(iter(self._weights.values())).shape[0]

    def _by_shape(self) -> dict[tuple[int, int], list[_Place]]:
        groups: dict[tuple[int, int], list[_Place]] = defaultdict(list)
        for place in self._places:
            rows, columns = place.end - place.start, self._weights[place.name].shape[2]
            groups[min(rows, columns), max(rows, columns)].append(place)
        return groups

    def _directions(
        self, grads: Mapping[str, Tensor], momentum: Tensor, grad_scale: Tensor, applies: Tensor
    ) -> dict[str, Tensor]:
        found = {}
        for name, past in self.momenta.items():
            scaled = grads[name] / grad_scale
            past.copy_(torch.where(applies, past.lerp(scaled, 1 - momentum), past))
            found[name] = scaled.lerp(past, momentum).to(self._dtype)
        return found

    def _oriented(self, stacked_LRC: Tensor, place: _Place) -> Tensor:
        """Return one kind of matrix, lying: no more rows than columns."""
        chosen = stacked_LRC[:, place.start : place.end]
        return chosen if chosen.shape[1] <= chosen.shape[2] else chosen.mT

    def _restored(self, update_LRC: Tensor, place: _Place) -> Tensor:
        is_standing = place.end - place.start > self._weights[place.name].shape[2]
        return update_LRC.mT if is_standing else update_LRC

    def _apply(self, place: _Place, update_LRC: Tensor, lr: Tensor, weight_decay: Tensor, applies: Tensor) -> None:
        rows = slice(place.start, place.end)
        weight_LRC, mean_LR1 = self._weights[place.name][:, rows], self.second_moments[place.name][:, rows]
        update_LRC = update_LRC.float()
        squares_LR1 = update_LRC.square().mean(dim=-1, keepdim=True)
        means_LR1 = mean_LR1.lerp(squares_LR1, 1 - SECOND_MOMENT_DECAY)
        mean_LR1.copy_(torch.where(applies, means_LR1, mean_LR1))
        evened_LRC = update_LRC * _row_scales(squares_LR1, means_LR1)
        step = lr * max(1.0, weight_LRC.shape[1] / weight_LRC.shape[2]) ** 0.5
        agrees_LRC = (evened_LRC * weight_LRC) > 0
        moved_LRC = weight_LRC - step * (evened_LRC + weight_decay * weight_LRC * agrees_LRC)
        weight_LRC.copy_(torch.where(applies, moved_LRC, weight_LRC))


def _row_scales(squares_LR1: Tensor, means_LR1: Tensor) -> Tensor:
    """Return what evens out rows and leaves the size of each matrix as it is.

    Args:
        squares_LR1: the mean square of each row.
        means_LR1: the running mean of that, by whose root rows are divided.
    """
    means_LR1 = means_LR1.clamp(min=_TINY)
    divided_LR1 = squares_LR1 / means_LR1
    kept_L11 = squares_LR1.sum(dim=1, keepdim=True) / divided_LR1.sum(dim=1, keepdim=True).clamp(min=_TINY)
    return (kept_L11 / means_LR1).sqrt()


def _size(matrices_LRC: Tensor) -> Tensor:
    return torch.linalg.vector_norm(matrices_LRC, dim=(-2, -1), keepdim=True)


def polar(matrices_MRC: Tensor) -> Tensor:
    """Bring all singular values of a batch of matrices near 1, by products alone.

    Args:
        matrices_MRC: no more rows than columns; every singular value counts, however small.
    """
    x_MRC = matrices_MRC / (_size(matrices_MRC) * _BOUND).clamp(min=_TINY)
    for a, b, c in POLAR_EXPRESS:
        gram_MRR = x_MRC @ x_MRC.mT
        x_MRC = torch.baddbmm(x_MRC, torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c), x_MRC, beta=a)
    return x_MRC
