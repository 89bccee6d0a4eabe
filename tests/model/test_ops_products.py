"""Products give what plain ones give; their weights' gradients reach the stacks they come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stentor.model.ops import Way, linear, products, unstacked
from stentor.model.ops.products import beside

LAYERS, ROWS, COLUMNS = 3, 5, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def through_all_layers(stacked: Tensor, dtype: torch.dtype, *, way: Way) -> tuple[Tensor, Tensor, Tensor]:
    """Return result and gradients of products with each layer's square matrix in turn."""
    stacked, x = stacked.clone().requires_grad_(), drawn(2, 3, stacked.shape[-1], seed=1).to(dtype).requires_grad_()
    out = x
    for weight in unstacked(stacked, dtype, way=way):
        out = linear(out, weight, way=way).sin()
    (out.float() * drawn(*out.shape, seed=2)).sum().backward()
    assert stacked.grad is not None
    assert x.grad is not None
    return out, stacked.grad, x.grad


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("num_layers", [1, LAYERS])
def test_results_and_gradients_are_those_of_plain_products(dtype, tolerance, num_layers):
    stacked = drawn(num_layers, ROWS, ROWS)
    ways = [through_all_layers(stacked, dtype, way=way) for way in (Way.GPU, Way.PLAIN)]
    for ours, plain in zip(*ways, strict=True):
        assert ours.dtype == plain.dtype
        assert torch.allclose(ours.float(), plain.float(), atol=tolerance)
    assert ways[0][1].dtype == torch.float32


@pytest.mark.parametrize("way", Way)
def test_a_product_is_that_of_torch(way):
    x, weight = drawn(2, 3, COLUMNS), drawn(ROWS, COLUMNS)
    assert torch.equal(linear(x, weight, way=way), functional.linear(x, weight))


def test_gradients_agree_with_finite_differences():
    x, weight = drawn(3, COLUMNS).double().requires_grad_(), drawn(ROWS, COLUMNS).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: linear(a, b, way=Way.GPU), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", Way)
def test_layers_are_the_stacks_in_another_type(dtype, way):
    stacked = drawn(LAYERS, ROWS, COLUMNS)
    for layer, matrix in enumerate(unstacked(stacked, dtype, way=way)):
        assert matrix.dtype == dtype
        assert torch.equal(matrix, stacked[layer].to(dtype))


@pytest.mark.parametrize("way", Way)
def test_a_layer_that_nothing_uses_has_a_gradient_of_zero(way):
    stacked = drawn(LAYERS, ROWS, COLUMNS).requires_grad_()
    linear(drawn(2, COLUMNS), unstacked(stacked, torch.float32, way=way)[1], way=way).sum().backward()
    assert stacked.grad is not None
    assert stacked.grad[[0, 2]].abs().max() == 0
    assert stacked.grad[1].abs().min() > 0


def test_weights_are_collected_after_everything_they_are_used_in(monkeypatch):
    """On a GPU that is when the second stream is waited for; each stack comes last, however many products it feeds."""
    order: list[str] = []
    real_linear, real_stack = products._Linear.backward, products._Unstacked.backward
    monkeypatch.setattr(products._Linear, "backward", lambda *args: (order.append("product"), real_linear(*args))[1])
    monkeypatch.setattr(products._Unstacked, "backward", lambda *args: (order.append("stack"), real_stack(*args))[1])
    first, second = (drawn(LAYERS, ROWS, ROWS, seed=seed).requires_grad_() for seed in (0, 1))
    x = drawn(2, ROWS)
    for one, two in zip(unstacked(first, x.dtype, way=Way.GPU), unstacked(second, x.dtype, way=Way.GPU), strict=True):
        x = linear(linear(x, one, way=Way.GPU).sin(), two, way=Way.GPU)
    x.sum().backward()
    assert order == ["product"] * 2 * LAYERS + ["stack"] * 2


def test_on_a_cpu_nothing_runs_beside():
    assert torch.equal(beside(torch.add, drawn(3), drawn(3, seed=1)), drawn(3) + drawn(3, seed=1))


class FakeStream:
    """Counts who waits for whom."""

    def __init__(self, *_: object) -> None:
        self.waits: list[FakeStream] = []

    def wait_stream(self, other: FakeStream) -> None:
        self.waits.append(other)

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_a_second_stream_waits_keeps_its_tensors_and_is_waited_for(monkeypatch):
    current = FakeStream()
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    second = products._SecondStream(torch.device("cuda"))
    x = drawn(3)
    assert torch.equal(second.run(torch.neg, x), -x)
    assert second._stream.waits == [current]  # type: ignore[attr-defined]
    assert second._held == [(x,)]
    second.join()
    assert current.waits == [second._stream]
    assert not second._held
    second.join()
    assert current.waits == [second._stream], "where nothing runs, nothing is waited for"
