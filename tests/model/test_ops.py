"""Every fused operation and its gradients equal the plain one; a GPU's kernels run in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional

from stentor.model.ops import (
    IGNORED_LABEL,
    Way,
    add_rms_norm,
    attend_causally,
    embed,
    linear_cross_entropy,
    rotate,
    swiglu,
    turn_heads,
    way_of,
)

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported, which is when they are first used


@pytest.fixture
def interpreter():
    """Skip where Triton is not installed."""
    pytest.importorskip("triton", reason="needs Triton, which runs kernels on the CPU for tests")


@pytest.fixture(params=[Way.GPU, Way.CPU], ids=["gpu", "cpu"])
def way(request):
    """Return each fused way; the GPU's is skipped where Triton is not installed."""
    if request.param is Way.GPU:
        request.getfixturevalue("interpreter")
    return request.param


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def both_ways(function, tensors, *, way: Way, tolerance: float) -> None:
    """Compare results and gradients of the fused and the plain way, relative to the largest value."""
    results = []
    for each in (way, Way.PLAIN):
        inputs = leaves(*tensors)
        outputs = function(*inputs, way=each)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        weighted = [output.float() * drawn(*output.shape, seed=9 + n) for n, output in enumerate(outputs)]
        torch.stack([piece.sum() for piece in weighted]).sum().backward()
        results.append([*outputs, *(tensor.grad for tensor in inputs)])
    for fused, plain in zip(*results, strict=True):
        assert fused.shape == plain.shape
        assert fused.dtype == plain.dtype
        assert (fused.float() - plain.float()).abs().max() <= tolerance * plain.float().abs().max().clamp(min=1e-6)


TYPES = [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("shape", [(2, 5, 64), (1, 3, 48), (3, 40, 256)])
def test_add_rms_norm(way, dtype, tolerance, shape):
    def function(x, delta, gain, *, way):
        return add_rms_norm(x, delta, gain, eps=1e-5, dtype=dtype, way=way)

    both_ways(function, (drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1), 1 + drawn(shape[-1], seed=2)),
              way=way, tolerance=tolerance)  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_a_norm_alone(way, dtype, tolerance):
    """The first norm adds nothing, the last one's sum is not used."""

    def first(x, gain, *, way):
        return add_rms_norm(x, None, gain, eps=1e-5, dtype=dtype, way=way)

    def last(x, delta, gain, *, way):
        return add_rms_norm(x, delta, gain, eps=1e-5, dtype=dtype, way=way)[1]

    x, delta, gain = drawn(2, 9, 64, dtype=dtype), drawn(2, 9, 64, dtype=dtype, seed=1), 1 + drawn(64, seed=2)
    both_ways(first, (x, gain), way=way, tolerance=tolerance)
    both_ways(last, (x, delta, gain), way=way, tolerance=tolerance)


def test_a_stream_in_float32_feeds_products_in_bfloat16(way):
    def function(x, delta, gain, *, way):
        return add_rms_norm(x, delta, gain, eps=1e-5, dtype=torch.bfloat16, way=way)

    both_ways(
        function, (drawn(2, 5, 64), drawn(2, 5, 64, dtype=torch.bfloat16), 1 + drawn(64)), way=way, tolerance=1e-2
    )


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize(("queries", "keys", "head_dim"), [(2, 2, 16), (4, 2, 32), (3, 1, 64)])
@pytest.mark.parametrize("norms", [False, True])
def test_turn_heads(way, dtype, tolerance, queries, keys, head_dim, norms):
    angles = drawn(7, head_dim // 2, seed=5).repeat(1, 2)  # both halves of a head turn by the same angles
    rotary = angles.cos(), angles.sin()
    gains = (1 + 0.5 * drawn(head_dim, seed=3), 1 + 0.5 * drawn(head_dim, seed=4))

    def function(qkv, *given, way):
        return turn_heads(qkv, rotary, given or None, num_heads=(queries, keys), eps=1e-6, way=way)

    inputs = (drawn(3, 7, (queries + 2 * keys) * head_dim, dtype=dtype), *(gains if norms else ()))
    both_ways(function, inputs, way=way, tolerance=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_embed(way, dtype, tolerance):
    ids = torch.tensor([[3, 0, 3], [9, 3, 1]])

    def function(weight, *, way):
        return embed(ids, weight, dtype=dtype, way=way)

    both_ways(function, (drawn(10, 48),), way=way, tolerance=tolerance)


def test_gains_that_are_not_learned_get_no_gradient(way):
    x, gain = drawn(2, 5, 32).requires_grad_(), drawn(32)
    add_rms_norm(x, None, gain, eps=1e-5, dtype=torch.float32, way=way)[1].sum().backward()
    fused, x.grad = x.grad, None
    add_rms_norm(x, None, gain, eps=1e-5, dtype=torch.float32, way=Way.PLAIN)[1].sum().backward()
    assert fused is not None
    assert x.grad is not None
    assert torch.allclose(fused, x.grad, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize(("queries", "keys"), [(3, 3), (4, 2), (3, 1)])
@pytest.mark.parametrize("tokens", [2, 7, 300])
def test_attention(dtype, tolerance, queries, keys, tokens):
    heads = [drawn(2, n, tokens, 16, dtype=dtype, seed=n + place) for place, n in enumerate((queries, keys, keys))]
    both_ways(attend_causally, heads, way=Way.CPU, tolerance=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_swiglu(way, dtype, tolerance):
    both_ways(swiglu, (3 * drawn(2, 5, 2 * 48, dtype=dtype),), way=way, tolerance=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("vocab_size", [50, 1024, 2100])
def test_linear_cross_entropy(way, dtype, tolerance, vocab_size):
    targets = torch.randint(vocab_size, (12,), generator=torch.Generator().manual_seed(1))
    targets[[3, 7]] = IGNORED_LABEL

    def function(x, weight, *, way):
        return linear_cross_entropy(x, weight, targets, way=way)

    both_ways(
        function, (drawn(12, 32, dtype=dtype), drawn(vocab_size, 32, dtype=dtype, seed=1)), way=way, tolerance=tolerance
    )


def test_linear_cross_entropy_is_what_torch_computes():
    x, weight, targets = drawn(6, 16), drawn(30, 16, seed=1), torch.tensor([1, 2, IGNORED_LABEL, 29, 0, 7])
    expected = functional.cross_entropy(x @ weight.T, targets, ignore_index=IGNORED_LABEL, reduction="sum")
    assert linear_cross_entropy(x, weight, targets, way=Way.PLAIN) == pytest.approx(float(expected), rel=1e-6)


def test_a_rotation_keeps_lengths_and_turns_by_the_angle():
    angle = torch.tensor([[0.3, 0.3]])
    turned = rotate(torch.tensor([[[[1.0, 0.0]]]]), angle.cos(), angle.sin()).flatten()
    assert torch.allclose(turned, torch.tensor([0.3]).repeat(2).cos() * torch.tensor([1.0, 0.0]) + torch.tensor(
        [0.0, 1.0]) * torch.tensor([0.3]).sin())  # fmt: skip


def test_kernels_are_for_16_bits_on_new_enough_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    assert way_of(torch.float16, torch.device("cuda")) is Way.PLAIN
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert way_of(torch.float16, torch.device("cuda")) is Way.GPU
    assert way_of(torch.float32, torch.device("cuda")) is Way.PLAIN


def test_loops_for_the_cpu_are_for_training():
    cpu = torch.device("cpu")
    assert way_of(torch.bfloat16, cpu) is way_of(torch.float32, cpu) is Way.CPU
    assert way_of(torch.float16, cpu) is way_of(torch.float64, cpu) is Way.PLAIN
    with torch.no_grad():
        assert way_of(torch.float32, cpu) is Way.PLAIN


@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (300, 40), (1000, 64)])
def test_rows_are_summed(interpreter, rows, columns):
    from stentor.model.kernels.summed_rows import summed_rows

    values = drawn(rows, columns)
    assert torch.allclose(summed_rows(values), values.sum(dim=0), atol=1e-4)
