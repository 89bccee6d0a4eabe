"""Continuations made on a GPU that is never waited for: what a step draws is fetched while the next one is computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stentor.runtime.torch_sampling import TorchSampler
from stentor.runtime.torch_step import Room


class TorchDraws:
    """The draws of some continuations of one prompt.

    Args:
        room: that remembers them; all have read the prompt.
        sampler: of their tokens.
        uniforms_TB: random numbers of each step and continuation.
    """

    def __init__(self, room: Room, sampler: TorchSampler, uniforms_TB: NDArray[np.float64]) -> None:
        self._room, self._sampler = room, sampler
        device = room.cache.k_LBKSH.device
        self._on_gpu = device.type == "cuda"
        self._uniforms_TB = torch.from_numpy(uniforms_TB).to(device, torch.float32 if device.type == "mps" else None)
        self._fetched_TB = torch.zeros(uniforms_TB.shape, dtype=torch.int64, pin_memory=self._on_gpu)

    def run(self, logits_1V: Tensor, num_read: int) -> Iterator[list[int]]:
        """Yield the tokens of each step; see `DrawingNetwork`.

        Args:
            logits_1V: after the prompt.
            num_read: its tokens.
        """
        num_steps, width = self._fetched_TB.shape
        ids_B, ready = self._draw(0, logits_1V.expand(width, -1))
        for step in range(num_steps):
            here = ready
            if step + 1 < num_steps:
                ids_B, ready = self._next(step, ids_B, num_read)
            if here is not None:
                here.synchronize()
            yield self._fetched_TB[step].tolist()

    @torch.inference_mode()
    def _next(self, step: int, ids_B: Tensor, num_read: int) -> tuple[Tensor, torch.cuda.Event | None]:
        """Read the tokens of a step and draw those of the next."""
        return self._draw(step + 1, self._room.read_there(ids_B.clamp(min=0), num_read + step))

    @torch.inference_mode()
    def _draw(self, step: int, logits_BV: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Draw tokens, and send them on their way here; the event says when they have come."""
        ids_B = self._sampler.draw(logits_BV, self._uniforms_TB[step])
        self._fetched_TB[step].copy_(ids_B, non_blocking=True)
        if not self._on_gpu:
            return ids_B, None
        arrived = torch.cuda.Event()
        arrived.record()
        return ids_B, arrived
