"""Every fused operation and its gradients equal the plain one; a GPU's kernels run in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from stentor.model.expected import drawn as drawn_rows
from stentor.model.expected import packed, unpacked
from stentor.model.ops import (
    IDLE,
    IGNORED_LABEL,
    Way,
    add_rms_norm,
    attend_cached,
    attend_causally,
    embed,
    head_gains,
    linear_cross_entropy,
    linear_distillation,
    linear_distillation_of_few,
    norm_gains,
    rotate,
    swiglu,
    turn_heads,
    way_of,
)


@pytest.fixture
def interpreter(monkeypatch):
    """Skip where Triton is not installed; run as few programs as leave more than one sum to be added up."""
    pytest.importorskip("triton", reason="needs Triton, which runs kernels on the CPU for tests")
    from stentor.model.kernels import add_rms_norm, turn_heads

    monkeypatch.setattr(add_rms_norm, "NORM_PROGRAMS", 3)
    monkeypatch.setattr(turn_heads, "HEAD_PROGRAMS", 3)


@pytest.fixture(params=[Way.GPU, Way.CPU], ids=["gpu", "cpu"])
def way(request):
    """Return each fused way; the GPU's is skipped where Triton is not installed."""
    if request.param is Way.GPU:
        request.getfixturevalue("interpreter")
    return request.param


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def norm(x, delta, gain, *, way: Way, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    (prepared,) = norm_gains(gain[None], way=way)
    return add_rms_norm(x, delta, prepared, eps=1e-5, dtype=dtype, way=way)


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
        return norm(x, delta, gain, dtype=dtype, way=way)

    both_ways(function, (drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1), 1 + drawn(shape[-1], seed=2)),
              way=way, tolerance=tolerance)  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_a_norm_alone(way, dtype, tolerance):
    """The first norm adds nothing, the last one's sum is not used."""

    def first(x, gain, *, way):
        return norm(x, None, gain, dtype=dtype, way=way)

    def last(x, delta, gain, *, way):
        return norm(x, delta, gain, dtype=dtype, way=way)[1]

    x, delta, gain = drawn(2, 9, 64, dtype=dtype), drawn(2, 9, 64, dtype=dtype, seed=1), 1 + drawn(64, seed=2)
    both_ways(first, (x, gain), way=way, tolerance=tolerance)
    both_ways(last, (x, delta, gain), way=way, tolerance=tolerance)


def test_a_stream_in_float32_feeds_products_in_bfloat16(way):
    def function(x, delta, gain, *, way):
        return norm(x, delta, gain, dtype=torch.bfloat16, way=way)

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
        prepared = None
        if given:
            q_gain, k_gain = given
            prepared = head_gains(q_gain[None], queries, way=way)[0], head_gains(k_gain[None], keys, way=way)[0]
        return turn_heads(qkv, rotary, prepared, num_heads=(queries, keys), eps=1e-6, way=way)

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
    norm(x, None, gain, dtype=torch.float32, way=way)[1].sum().backward()
    fused, x.grad = x.grad, None
    norm(x, None, gain, dtype=torch.float32, way=Way.PLAIN)[1].sum().backward()
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


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_linear_distillation(interpreter, dtype, tolerance, share):
    vocab_size = 300
    targets = torch.randint(vocab_size, (12,), generator=torch.Generator().manual_seed(1))
    targets[[3, 7]] = IGNORED_LABEL
    teacher_logits = 3 * drawn(12, vocab_size, dtype=dtype, seed=2)

    def function(x, weight, *, way):
        loss, nats = linear_distillation(x, weight, targets, teacher_logits, share=share, way=way)
        assert not nats.requires_grad
        return loss + 0 * nats

    factors = drawn(12, 32, dtype=dtype), drawn(vocab_size, 32, dtype=dtype, seed=1)
    both_ways(function, factors, way=Way.GPU, tolerance=tolerance)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_linear_distillation_of_few(interpreter, dtype, tolerance, share):
    vocab_size = 300
    rows = drawn_rows(3 * drawn(12, vocab_size, dtype=dtype, seed=2), 12, torch.Generator().manual_seed(0))
    targets = unpacked(rows)[0][:, 2].clone()  # some of the few, some not
    targets[:4] = torch.tensor([5, 290, 17, 0])
    targets[[3, 7]], rows[3] = IGNORED_LABEL, 0

    def function(x, weight, *, way):
        loss, nats = linear_distillation_of_few(x, weight, targets, rows, share=share, way=way)
        assert not nats.requires_grad
        return loss + 0 * nats

    factors = drawn(12, 32, dtype=dtype), drawn(vocab_size, 32, dtype=dtype, seed=1)
    both_ways(function, factors, way=Way.GPU, tolerance=tolerance)


def test_all_tokens_of_a_distribution_are_the_distribution():
    factors, targets = (drawn(6, 16), drawn(32, 16, seed=1)), torch.tensor([1, 2, IGNORED_LABEL, 29, 0, 7])
    teacher_logits = drawn(6, 32, seed=2)
    rows = packed(torch.arange(32).expand(6, -1), teacher_logits.softmax(dim=-1))
    whole = linear_distillation(*factors, targets, teacher_logits, share=0.7, way=Way.PLAIN)
    few = linear_distillation_of_few(*factors, targets, rows, share=0.7, way=Way.PLAIN)
    torch.testing.assert_close(few, whole, rtol=1e-3, atol=1e-3)


def test_what_a_teacher_is_heard_beside_is_the_loss_alone(interpreter):
    factors, targets = (drawn(6, 16), drawn(30, 16, seed=1)), torch.tensor([1, 2, IGNORED_LABEL, 29, 0, 7])
    expected = linear_cross_entropy(*factors, targets, way=Way.PLAIN)
    for way in (Way.GPU, Way.PLAIN):
        _, nats = linear_distillation(*factors, targets, drawn(6, 30, seed=2), share=0.7, way=way)
        assert float(nats) == pytest.approx(float(expected), rel=1e-5)


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


@pytest.mark.parametrize("num_layers", [1, 3])
def test_gains_of_all_layers_learn_as_each_would_alone(way, num_layers):
    x, gains = drawn(2, 9, 32), (1 + drawn(num_layers, 32, seed=1)).requires_grad_()
    found = []
    for each in (way, Way.PLAIN):
        gains.grad = None
        for gain in norm_gains(gains, way=each):
            normed = add_rms_norm(x, None, gain, eps=1e-5, dtype=torch.float32, way=each)[1]
            normed.square().sum().backward(retain_graph=True)
        assert gains.grad is not None
        found.append(gains.grad)
    assert torch.allclose(*found, rtol=1e-4)


# --- one token over what is kept ---


@pytest.mark.parametrize(("heads", "key_heads", "head_dim"), [(2, 2, 8), (4, 2, 16), (3, 1, 12)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_attention_over_a_cache_is_the_plain_one(interpreter, heads, key_heads, head_dim, dtype, tolerance):
    """At the first place, in the first block of keys, at its end, in the second, and for a sequence that is idle."""
    positions_B, capacity = torch.tensor([0, 5, 128, 200, IDLE]), 202
    batch = len(positions_B)
    q, k, v = (drawn(batch, n, head_dim, dtype=dtype, seed=n + s) for s, n in enumerate((heads, key_heads, key_heads)))
    kept = drawn(2, batch, key_heads, capacity, head_dim, dtype=dtype, seed=7)
    outcomes = []
    for each in (Way.PLAIN, Way.GPU):
        keys, values = kept.clone()
        outcomes.append((attend_cached((q, k, v), (keys, values), positions_B, way=each), keys, values))
    (plain, *plain_kept), (fused, *fused_kept) = outcomes
    assert (plain[:-1].float() - fused[:-1].float()).abs().max() <= tolerance
    for one, other, before in zip(plain_kept, fused_kept, kept, strict=True):
        assert torch.equal(one[..., :-1, :], other[..., :-1, :])
        assert torch.equal(one[-1, :, :-1], before[-1, :, :-1])  # the idle one keeps what it had


def test_a_token_over_a_cache_attends_as_in_a_whole_text():
    q, k, v = (drawn(2, n, 9, 8, seed=n) for n in (4, 2, 3))
    v = v[:, :2]
    whole = attend_causally(q, k, v, way=Way.PLAIN)
    keys, values = torch.zeros(2, 2, 2, 12, 8)
    for place in range(9):
        heads = q[:, :, place], k[:, :, place], v[:, :, place]
        step = attend_cached(heads, (keys, values), torch.tensor([place, place]), way=Way.PLAIN)
        assert (step - whole[:, place]).abs().max() < 1e-6
