"""Products of bytes are the same integers, with whichever instructions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from stentor.runtime.kernels import dots
from stentor.runtime.kernels.dots import dot, dot_of_nibbles, high_nibbles, low_nibbles, portable_dot
from stentor.runtime.kernels.vector import (
    has_feature,
    ints,
    load_bytes,
    spread_bytes,
    store_floats,
    to_floats,
)


@njit
def _dots(weights, activations, count, out, portable):
    sums = ints(np.int32(-5))
    for place in range(count):
        w, x = load_bytes(weights + 64 * place), spread_bytes(activations + 4 * place)
        sums = portable_dot(sums, w, x) if portable else dot(sums, w, x)
    store_floats(out, to_floats(sums))


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60)
def test_dot_products_of_bytes_are_exact(count, seed, extreme):
    random = np.random.default_rng(seed)
    weights = random.choice([0, 255], (count, 16, 4)) if extreme else random.integers(0, 256, (count, 16, 4))
    activations = random.choice([-128, 127], (count, 4)) if extreme else random.integers(-128, 128, (count, 4))
    w, x = weights.astype(np.uint8), activations.astype(np.int8)
    expected = np.einsum("crk,ck->r", weights, activations) - 5
    for portable in (False, True):
        out = np.empty(16, dtype=np.float32)
        _dots(w.ctypes.data, x.ctypes.data, count, out.ctypes.data, portable)
        assert np.array_equal(out, expected.astype(np.float32)), portable


@njit
def _nibbles(a, out):
    sums = portable_dot(ints(np.int32(0)), low_nibbles(load_bytes(a)), spread_bytes(a + 64))
    store_floats(out, to_floats(sums))
    sums = portable_dot(ints(np.int32(0)), high_nibbles(load_bytes(a)), spread_bytes(a + 64))
    store_floats(out + 64, to_floats(sums))


def test_bytes_are_cut_into_nibbles(random):
    data = random.integers(0, 256, 68).astype(np.uint8)
    data[64:] = 1
    out = np.empty((2, 16), dtype=np.float32)
    _nibbles(data.ctypes.data, out.ctypes.data)
    assert np.array_equal(out[0], (data[:64] & 15).reshape(16, 4).sum(axis=1))
    assert np.array_equal(out[1], (data[:64] >> 4).reshape(16, 4).sum(axis=1))


def compiled(operation):
    """Return a function of two addresses that writes an operation's sums to a third; compiled when first called."""

    @njit
    def one(weights, activations, out):
        store_floats(out, to_floats(operation(ints(np.int32(7)), load_bytes(weights), spread_bytes(activations))))

    return one


WAYS = {
    "this CPU's": (None, None),
    "AVX-VNNI": (8, "vpdpbusd.256"),
    "AVX2": (0, "pmadd.ub.sw"),
    "any CPU's": (0, None),
}


@pytest.mark.parametrize(("operation", "top"), [(dot, 255), (dot_of_nibbles, 15)])
@pytest.mark.parametrize(("way", "lanes", "instruction"), [(way, *given) for way, given in WAYS.items()])
def test_every_way_gives_the_same_integers(monkeypatch, random, operation, top, way, lanes, instruction):
    if instruction and not has_feature("avxvnni" if lanes else "avx2"):
        pytest.skip("this CPU has no such instruction")
    if lanes is not None:
        monkeypatch.setattr(dots, "byte_product_lanes", lambda: lanes)
        monkeypatch.setattr(dots, "has_feature", lambda feature: instruction is not None)
    one, out = compiled(operation), np.empty(16, dtype=np.float32)
    for weights in (np.full(64, top), random.integers(0, top + 1, 64)):
        for activations in (np.full(4, -128), np.full(4, 127), random.integers(-128, 128, 4)):
            w, x = weights.astype(np.uint8), activations.astype(np.int8)
            one(w.ctypes.data, x.ctypes.data, out.ctypes.data)
            assert np.array_equal(out, weights.reshape(16, 4) @ activations + 7)
    code = next(iter(one.inspect_llvm().values()))
    if lanes is not None:
        assert ("vpdpbusd" in code) == (lanes > 0)
        assert ("pmadd.ub.sw" in code) == (way == "AVX2" and operation is dot_of_nibbles)
