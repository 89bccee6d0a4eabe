"""What loops are made of: bfloat16 rounds as torch rounds, the exponential is exact enough, order is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.model.kernels_cpu.compiled import (
    SMALLEST_INTEGER,
    bits,
    cpu_kernel,
    exp,
    from_ordered,
    ordered,
    read,
    rounded,
)

floats = st.floats(width=32, allow_nan=False)


@cpu_kernel
def _copied(source, target):
    for place in range(len(source)):
        target[place] = rounded(read(source[place]), target)


@cpu_kernel
def _powers(source, target):
    for place in range(len(source)):
        target[place] = exp(source[place])


@cpu_kernel
def _largest(source):
    largest = SMALLEST_INTEGER
    for place in range(len(source)):
        largest = max(largest, ordered(source[place]))
    return from_ordered(largest)


@given(st.lists(floats, min_size=1, max_size=40))
def test_bfloat16_is_rounded_as_torch_does(values):
    source = torch.tensor(values, dtype=torch.float32)
    target = torch.empty_like(source, dtype=torch.bfloat16)
    _copied(bits(source), bits(target))
    assert torch.equal(target, source.to(torch.bfloat16))


@pytest.mark.parametrize("last_bits", [0x7FFF, 0x8000, 0x8001])
def test_ties_go_to_even(last_bits):
    source = torch.tensor([0x3F80_0000 + last_bits, 0x3F81_0000 + last_bits], dtype=torch.int32).view(torch.float32)
    target = torch.empty(2, dtype=torch.bfloat16)
    _copied(bits(source), bits(target))
    assert torch.equal(target, source.to(torch.bfloat16))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none(value, dtype):
    source = torch.tensor([value, 0.0], dtype=dtype)
    target = torch.empty(2, dtype=torch.bfloat16)
    _copied(bits(source), bits(target))
    assert torch.equal(target.isnan(), source.isnan())
    assert torch.equal(target.isinf(), source.isinf())


def test_every_bfloat16_is_read_exactly():
    source = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    target = torch.empty(2**16)
    _copied(bits(source), bits(target))
    assert torch.equal(target.nan_to_num(), source.float().nan_to_num())


def test_the_memory_is_the_tensors_own():
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.zeros(3, 4, dtype=dtype).requires_grad_()
        assert bits(tensor).ctypes.data == tensor.data_ptr()
        assert bits(tensor).shape == (3, 4)


def test_the_exponential_is_within_4e_7():
    source = np.concatenate([np.linspace(-87, 0, 200_001), [-1e-30, -0.0, -np.log(2) / 2]]).astype(np.float32)
    target = np.empty_like(source)
    _powers(source, target)
    exact = np.exp(source.astype(np.float64))
    assert (np.abs(target / exact - 1)).max() < 4e-7
    assert target[-2] == 1.0


def test_the_exponential_of_very_little_is_nothing_and_of_no_number_none():
    target = np.empty(4, dtype=np.float32)
    _powers(np.array([-88, -1e30, -np.inf, np.nan], dtype=np.float32), target)
    assert target[:3].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(target[3])


@given(st.lists(floats, min_size=1, max_size=40))
def test_the_largest_is_found(values):
    assert _largest(np.array(values, dtype=np.float32)) == max(values)
