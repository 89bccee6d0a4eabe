"""INT8 in the forward pass: the levels, the scales, and a gradient that passes straight through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from stentor.model.fake_quant import INT8_MAX, dequantize_int8, fake_quantize, quantize_int8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_rounded(weight: np.ndarray) -> np.ndarray:
    """Round each output channel (each row) on its own, one number at a time, in float32 as the fast one does."""
    rounded = np.zeros_like(weight)
    for index, row in enumerate(weight):
        scale = np.float32(np.float16(max(np.abs(row).max() / np.float32(127), np.float32(2.0**-24))))
        for place, value in enumerate(row):
            level = np.round(value / scale)  # halves to even, as torch does
            rounded[index, place] = np.float32(min(127, max(-127, level))) * scale
    return rounded


matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32) | st.floats(-0.125, 0.125, width=32) | st.just(0.0),
)


@given(matrices)
def test_it_equals_rounding_one_number_at_a_time(weight):
    np.testing.assert_array_equal(fake_quantize(torch.from_numpy(weight)).numpy(), slow_rounded(weight))


@given(matrices)
def test_it_is_what_integers_and_scales_stand_for_bit_for_bit(weight):
    given_ = torch.from_numpy(weight)
    integers, scale = quantize_int8(given_)
    assert integers.dtype == torch.int8
    assert scale.dtype == torch.float32
    assert scale.shape == (len(weight), 1)
    assert torch.equal(fake_quantize(given_), dequantize_int8(integers, scale))
    assert torch.equal(fake_quantize(given_), integers.float() * scale)


@given(matrices)
def test_no_value_moves_by_more_than_half_a_level_and_the_largest_is_kept(weight):
    given_ = torch.from_numpy(weight)
    integers, scale = quantize_int8(given_)
    assert ((fake_quantize(given_) - given_).abs() <= 0.5 * scale * (1 + 1e-5) + 127 * 2.0**-25).all()
    assert (integers.abs().amax(dim=1)[given_.abs().amax(dim=1) > 0.01] == INT8_MAX).all()
    assert int(integers.min()) >= -INT8_MAX, "-128 would have no counterpart"


@given(
    hnp.arrays(np.int8, (3, 5), elements=st.integers(-127, 127)),
    st.lists(st.integers(-24, 15), min_size=3, max_size=3),
)
def test_exact_integers_come_back(integers, powers):
    """Where a channel reaches 127 levels of a power of two, nothing is rounded."""
    integers[:, 0] = 127
    scale = torch.tensor([[2.0**power] for power in powers])
    weight = torch.from_numpy(integers).float() * scale
    found, found_scale = quantize_int8(weight)
    assert torch.equal(found, torch.from_numpy(integers))
    assert torch.equal(found_scale, scale)
    assert torch.equal(fake_quantize(weight), weight)


@given(matrices)
def test_scales_are_numbers_that_float16_has(weight):
    _, scale = quantize_int8(torch.from_numpy(weight))
    assert torch.equal(scale.half().float(), scale)
    assert (scale > 0).all()


@given(matrices)
def test_rounding_again_gives_the_same_levels_and_scales(weight):
    once = quantize_int8(torch.from_numpy(weight))
    again = quantize_int8(dequantize_int8(*once))
    reaches = once[0].abs().amax(dim=1) == INT8_MAX  # all but channels of next to nothing
    assert torch.equal(once[0][reaches], again[0][reaches])
    assert torch.equal(once[1][reaches], again[1][reaches])


def test_weights_beyond_float16_scales_stay_finite():
    assert torch.isfinite(fake_quantize(torch.tensor([[1e9, -3.0]]))).all()


@given(matrices)
def test_it_is_symmetric_around_zero(weight):
    given_ = torch.from_numpy(weight)
    assert torch.equal(fake_quantize(-given_), -fake_quantize(given_))


def test_a_channel_of_zeros_stays_zero_and_is_no_nan():
    weight = drawn(4, 6)
    weight[2] = 0
    integers, scale = quantize_int8(weight)
    assert not integers[2].any()
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()
    assert not fake_quantize(weight)[2].any()


def test_each_channel_has_its_own_scale():
    weight = drawn(3, 8) * torch.tensor([[1.0], [1e-3], [1e3]])
    relative = (fake_quantize(weight) - weight).abs().amax(dim=1) / weight.abs().amax(dim=1)
    assert (relative < 0.5 / 127 + 1e-6).all()


def test_a_stack_is_rounded_as_its_matrices_are():
    stacked = drawn(3, 4, 8)
    for matrix, rounded in zip(stacked, fake_quantize(stacked), strict=True):
        assert torch.equal(rounded, fake_quantize(matrix))


def test_there_are_255_levels():
    weight = torch.linspace(-1, 1, 10_001)[None]
    assert len(fake_quantize(weight).unique()) == 255


def test_the_gradient_passes_straight_through():
    weight, above = drawn(3, 5).requires_grad_(), drawn(3, 5, seed=1)
    (fake_quantize(weight) * above).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, above)


def test_the_gradient_of_a_product_is_that_at_the_rounded_weight():
    """As if the rounded weight were the parameter: d/dW of |x W^T|^2, taken there, given to the master."""
    master, x = drawn(6, 4).requires_grad_(), drawn(5, 4, seed=2)
    (x @ fake_quantize(master).T).square().sum().backward()
    rounded = fake_quantize(master.detach()).requires_grad_()
    (x @ rounded.T).square().sum().backward()
    assert master.grad is not None
    assert rounded.grad is not None
    assert torch.equal(master.grad, rounded.grad)
    assert not torch.equal(rounded.detach(), master.detach())


def test_the_weight_itself_is_not_touched():
    weight = drawn(3, 5)
    before = weight.clone()
    fake_quantize(weight)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("step", [1e-3, 1e-4])
def test_updates_smaller_than_a_level_add_up_in_the_master(step):
    weight = torch.tensor([[1.0, 0.5]], requires_grad=True)
    start = fake_quantize(weight.detach())
    for _ in range(round(0.02 / step)):
        fake_quantize(weight)[0, 1].backward()
        assert weight.grad is not None
        with torch.no_grad():
            weight -= step * weight.grad
        weight.grad = None
    assert float(weight[0, 1].detach()) == pytest.approx(0.48, abs=1e-4)
    assert float(fake_quantize(weight.detach())[0, 1]) < float(start[0, 1])
