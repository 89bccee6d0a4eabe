"""ggml's own rounding, called in the library of xllamacpp."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize

from stentor.errors import MissingDependencyError
from stentor.export import ggml
from stentor.model.quantized import RECORDS, Quantized

VALUES = np.random.default_rng(0).standard_normal((5, 512)).astype(np.float32)
LOST = {"Q4_K": 0.01, "Q5_K": 0.003, "Q6_K": 0.001}


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_blocks_are_those_of_the_package_gguf_to_the_bit(kind):
    """What both can write tells that the call is right."""
    kind = GGMLQuantizationType[kind]
    assert np.array_equal(ggml.quantize_rows(VALUES, kind), quantize(VALUES, kind))


@pytest.mark.parametrize("kind", LOST)
def test_k_quants_come_near_the_values(kind):
    raw = ggml.quantize_rows(VALUES, GGMLQuantizationType[kind])
    assert raw.shape == (5, 2 * GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1])
    read = Quantized(kind, raw.view(RECORDS[kind])).dequantized()
    lost = float(np.square(read - VALUES).sum() / np.square(VALUES).sum())
    assert 0 < lost < LOST[kind]


def test_values_that_are_not_contiguous_are_stored_in_reading_order():
    kind = GGMLQuantizationType.Q6_K
    turned = np.asfortranarray(VALUES)
    assert np.array_equal(ggml.quantize_rows(turned, kind), ggml.quantize_rows(VALUES, kind))


@pytest.fixture
def forgotten():
    ggml._quantize_chunk.cache_clear()
    yield
    ggml._quantize_chunk.cache_clear()


def test_a_missing_package_is_named(forgotten, monkeypatch):
    monkeypatch.setattr(ggml, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="'xllamacpp', which is not installed") as caught:
        ggml.quantize_rows(VALUES, GGMLQuantizationType.Q4_K)
    assert "stentor[export]" in caught.value.fix


def test_a_library_without_the_function_is_one_sentence_with_a_way_out(forgotten, monkeypatch):
    monkeypatch.setattr(ggml, "_FUNCTION", "ggml_no_such_function")
    with pytest.raises(MissingDependencyError, match="does not offer here") as caught:
        ggml.quantize_rows(VALUES, GGMLQuantizationType.Q4_K)
    assert "llama-quantize" in caught.value.fix
