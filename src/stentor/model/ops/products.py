"""Products with weights, whose own gradients a GPU computes beside the rest of the backward pass.

Nothing waits for the gradient of a weight but the optimizer, while that of the input is what the layer below needs at
once. So the former goes to a second stream: products are bound by arithmetic, most of what runs meanwhile by memory.
Every weight comes out of `unstacked`, whose backward pass waits for that stream; autograd runs it last, for it was
made before anything that the weights are used in.

Shapes: L layers, R rows (outputs) and C columns (inputs) of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.ops.way import Way


def unstacked(stacked_LRC: Tensor, dtype: torch.dtype, *, way: Way) -> tuple[Tensor, ...]:
    """Return the matrix of each layer in the type of its products, as `linear` takes it."""
    # Unbinding once gives one backward pass per stack; indexing each layer would write the whole stack L times.
    return _Unstacked.apply(stacked_LRC, dtype) if way is Way.GPU else stacked_LRC.to(dtype).unbind()


def linear(x: Tensor, weight_RC: Tensor, *, way: Way) -> Tensor:
    """Return x @ weight.T for x [..., C].

    Args:
        x: of the weight's type.
        weight_RC: from `unstacked`.
        way: on a GPU the gradient of the weight is computed beside the rest.
    """
    return _Linear.apply(x, weight_RC) if way is Way.GPU else F.linear(x, weight_RC)


def beside(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return what a function makes of tensors, computed on a second stream that the next `_Unstacked` waits for."""
    if not tensors[0].is_cuda or torch.are_deterministic_algorithms_enabled():
        return function(*tensors)
    return _second_stream(tensors[0].device).run(function, *tensors)


class _SecondStream:
    """A stream beside the current one.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._held: list[tuple[Tensor, ...]] = []

    def run(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Compute something here, once what the current stream has been given so far is done."""
        self._stream.wait_stream(torch.cuda.current_stream())
        self._held.append(tensors)  # their memory must not be given to others before they are read
        with torch.cuda.stream(self._stream):
            return function(*tensors)

    def join(self) -> None:
        """Let the current stream wait for all that runs here, if anything does."""
        if self._held:  # to wait for a stream that a recording has not seen would spoil it
            torch.cuda.current_stream().wait_stream(self._stream)
            self._held.clear()


@cache
def _second_stream(device: torch.device) -> _SecondStream:
    return _SecondStream(device)


class _Unstacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stacked_LRC: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        ctx.dtype = stacked_LRC.dtype
        return stacked_LRC.to(dtype, copy=True).unbind()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if grads[0].is_cuda:
            _second_stream(grads[0].device).join()
        return torch.stack(grads).to(ctx.dtype), None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_RC: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight_RC)
        return F.linear(x, weight_RC)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight_RC = ctx.saved_tensors
        grad_NR, x_NC = grads[0].flatten(0, -2), x.flatten(0, -2)
        weight_grad_RC = beside(_outer, grad_NR, x_NC)
        return (grad_NR @ weight_RC).view(x.shape), weight_grad_RC


def _outer(grad_NR: Tensor, x_NC: Tensor) -> Tensor:
    return grad_NR.T @ x_NC
