"""In which numbers a network computes: the type of its products, what stays in float32, what is rounded to INT8.

Weights are float32 always; these are the types that products see.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stentor.model.fake_quant import fake_quantize
from stentor.model.ops import Way, unstacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How a network computes.

    Attributes:
        compute_dtype: of the inputs of matrix products, and of what flows between layers.
        float32_parts: what is kept in float32 nevertheless: `none`; `embedding` (the embedding, the head, all norms
            and the sums that layers add to); `ends` (these, and the products of the first and last layer).
        fake_quantizes: products see the weights of layers as INT8 would store them; `ends` are left out.
    """

    compute_dtype: torch.dtype = torch.float32
    float32_parts: str = "none"
    fake_quantizes: bool = False

    @property
    def stream_dtype(self) -> torch.dtype:
        """The type of what flows between layers."""
        return self.compute_dtype if self.float32_parts == "none" else torch.float32

    def layers(self, stacked_LRC: Tensor, *, way: Way = Way.PLAIN) -> list[Tensor]:
        """Return the matrix of each layer as its products see it.

        Args:
            stacked_LRC: the matrices of all layers, one behind the other; they are converted in one pass.
            way: of their products.
        """
        seen_LRC = fake_quantize(stacked_LRC) if self.fake_quantizes else stacked_LRC
        layers = list(unstacked(seen_LRC, self.compute_dtype, way=way))
        if self.float32_parts == "ends":
            first, *_, last = unstacked(stacked_LRC[[0, -1]], torch.float32, way=way)
            layers[0], layers[-1] = first, last
        return layers

    def head(self, weight_VD: Tensor, *, way: Way = Way.PLAIN) -> Tensor:
        """Return the embedding or the head as products see it."""
        return unstacked(weight_VD[None], self.stream_dtype, way=way)[0]
