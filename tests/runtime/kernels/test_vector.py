"""Vectors compute what NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from stentor.runtime.kernels import vector
from stentor.runtime.kernels.vector import (
    absolute,
    exponential,
    first_lanes,
    floats,
    high_bytes,
    ints,
    largest,
    load_float,
    load_floats,
    load_halves,
    load_int,
    load_long,
    maximum,
    move_byte,
    multiply_add,
    rounded,
    store_float,
    store_floats,
    store_int,
    store_long,
    store_low_bytes,
    to_floats,
    total,
    total_of_bytes,
    total_of_ints,
)

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16)


def array(values) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@njit
def _arithmetic(a, b, c, out):
    x, y, z = load_floats(a), load_floats(b), load_floats(c)
    store_floats(out, x + y)
    store_floats(out + 64, x - y)
    store_floats(out + 128, x * y)
    store_floats(out + 192, x / y)
    store_floats(out + 256, multiply_add(x, y, z))
    store_floats(out + 320, maximum(x, y))
    store_floats(out + 384, absolute(x))


@given(numbers, numbers, numbers)
@settings(max_examples=50)
def test_arithmetic_is_that_of_numpy(a, b, c):
    x, y, z = array(a), array(b), array(c)
    y[np.abs(y) < 1e-3] = 1
    out = np.empty((7, 16), dtype=np.float32)
    _arithmetic(x.ctypes.data, y.ctypes.data, z.ctypes.data, out.ctypes.data)
    once = (x.astype(np.float64) * y + z).astype(np.float32)
    expected = (x + y, x - y, x * y, x / y, once, np.maximum(x, y), np.abs(x))
    for ours, theirs in zip(out, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-7, atol=1e-30)


@njit
def _reductions(a):
    x = load_floats(a)
    return total(x), largest(x), total_of_ints(rounded(x))


@given(numbers)
@settings(max_examples=50)
def test_lanes_are_added_up_and_compared(a):
    x = array(a)
    summed, highest, whole = _reductions(x.ctypes.data)
    assert summed == pytest.approx(x.astype(np.float64).sum(), abs=1e-6 * max(1.0, float(np.abs(x).sum())))
    assert highest == x.max()
    assert whole == np.rint(x).astype(np.int64).sum()


def test_a_sum_is_taken_in_halves():
    x = array([1e8, 1, -1e8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    halves = x.copy()
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert _reductions(x.ctypes.data)[0] == halves[0]


@njit
def _conversions(a, ints_out, bytes_out, floats_out):
    whole = rounded(load_floats(a))
    store_floats(floats_out, to_floats(whole + ints(np.int32(1)) - ints(np.int32(1))))
    store_low_bytes(bytes_out, whole)
    store_low_bytes(bytes_out + 16, high_bytes(whole))
    store_floats(floats_out + 64, first_lanes(5, load_floats(a), floats(np.float32(-3))))


def test_numbers_are_rounded_to_even_and_cut_into_bytes():
    x = array([0.5, 1.5, 2.5, 300.4, 65_535, 255.5, 256, 0, 1, 2, 3, 4, 5, 6, 7, 1023])
    data, out = np.zeros(32, dtype=np.uint8), np.zeros((2, 16), dtype=np.float32)
    _conversions(x.ctypes.data, 0, data.ctypes.data, out.ctypes.data)
    whole = np.rint(x).astype(np.int64)
    assert np.array_equal(out[0], whole)
    assert np.array_equal(data[:16], whole % 256)
    assert np.array_equal(data[16:], whole // 256)
    assert np.array_equal(out[1], [*x[:5], *[-3] * 11])


@njit
def _exponentials(a, out, count):
    for place in range(0, 4 * count, 64):
        store_floats(out + place, exponential(load_floats(a + place)))


def test_exponentials_are_close_to_the_true_ones():
    x = np.linspace(-87, 88, 16 * 5000, dtype=np.float32)
    out = np.empty_like(x)
    _exponentials(x.ctypes.data, out.ctypes.data, len(x))
    true = np.exp(x.astype(np.float64))
    assert np.max(np.abs(out - true) / true) < 3e-7
    assert out[np.argmin(np.abs(x))] == pytest.approx(1, rel=1e-3)


def test_exponentials_of_very_low_numbers_are_nearly_nothing():
    x = array([-87.5, -100, -1e4, -1e30, *[0] * 12])
    out = np.empty_like(x)
    _exponentials(x.ctypes.data, out.ctypes.data, 16)
    assert (out[:4] > 0).all()
    assert (out[:4] < 2e-38).all()
    assert (out[4:] == 1).all()


@njit
def _halves(a, out):
    store_floats(out, load_halves(a))


@njit
def _halves_by_hand(a, out):
    store_floats(out, load_halves(a))


@pytest.mark.parametrize("read", [_halves, _halves_by_hand])
def test_every_float16_is_read_exactly(monkeypatch, read):
    if read is _halves_by_hand:  # compiled at its first call, here
        monkeypatch.setattr(vector, "has_feature", lambda feature: False)
    bits = np.arange(2**16, dtype=np.uint16)
    halves = np.resize(bits[np.isfinite(bits.view(np.float16))].view(np.float16), 63 * 1024)
    out = np.empty(len(halves), dtype=np.float32)
    for start in range(0, len(halves), 16):
        read(halves[start:].ctypes.data, out[start:].ctypes.data)
    assert np.array_equal(out, halves.astype(np.float32))


@njit
def _total_of_bytes(a):
    return total_of_bytes(a)


@given(st.lists(st.integers(-128, 127), min_size=32, max_size=32))
@settings(max_examples=40)
def test_bytes_are_added_up(values):
    data = np.array(values, dtype=np.int8)
    assert _total_of_bytes(data.ctypes.data) == sum(values)


@njit
def _scalars(a, out):
    store_float(out, load_float(a))
    store_int(out + 5, load_int(a + 4))
    store_long(out + 16, load_long(a + 8))
    move_byte(a + 4, out + 24)


def test_single_numbers_are_read_and_written(random):
    data, out = random.integers(0, 256, 16).astype(np.uint8), np.zeros(32, dtype=np.uint8)
    data[:4] = np.frombuffer(np.float32(1.5).tobytes(), dtype=np.uint8)
    _scalars(data.ctypes.data, out.ctypes.data)
    assert np.array_equal(out[:4], data[:4])
    assert np.array_equal(out[5:9], data[4:8])
    assert np.array_equal(out[16:24], data[8:16])
    assert out[24] == data[4]
