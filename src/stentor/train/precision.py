"""Scaling the loss for float16, whose gradients would else vanish: up while all goes well, down when they overflow.

Nothing here waits for the device. Reference: Micikevicius et al. 2018, "Mixed Precision Training", arXiv 1710.03740.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FIRST_SCALE, SMALLEST_SCALE, LARGEST_SCALE = 2.0**16, 1.0, 2.0**24
GROWTH_INTERVAL = 2000
"""Updates without an overflow after which the scale is doubled, as torch's own scaler does."""


class LossScale:
    """The factor that the loss is multiplied by before its gradient is taken; 1 for ever where it is not needed.

    Args:
        is_dynamic: whether products are in float16.
        device: where the factor lives.
    """

    def __init__(self, *, is_dynamic: bool, device: torch.device) -> None:
        self._is_dynamic = is_dynamic
        self.scale = torch.full((), FIRST_SCALE if is_dynamic else 1.0, device=device)
        self._good_updates = torch.zeros((), device=device)

    def adjust(self, is_finite: Tensor) -> Tensor:
        """Learn from an update whether gradients overflow.

        Returns:
            Whether the run can go on: an overflow ends it only where the scale has nothing left to give.
        """
        if not self._is_dynamic:
            return is_finite
        can_go_on = is_finite | (self.scale > SMALLEST_SCALE)
        good_updates = torch.where(is_finite, self._good_updates + 1, 0.0)
        grows = good_updates >= GROWTH_INTERVAL
        scale = torch.where(is_finite, torch.where(grows, self.scale * 2, self.scale), self.scale / 2)
        self.scale.copy_(scale.clamp(SMALLEST_SCALE, LARGEST_SCALE))
        self._good_updates.copy_(torch.where(grows, 0.0, good_updates))
        return can_go_on

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs, by name."""
        return {"loss_scale": self.scale, "good_updates": self._good_updates} if self._is_dynamic else {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same kind."""
        if self._is_dynamic:
            self.scale.copy_(tensors["loss_scale"])
            self._good_updates.copy_(tensors["good_updates"])
