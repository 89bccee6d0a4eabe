"""Names and row orders of GGUF files: the reference package's own, there and back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from gguf import MODEL_ARCH, TensorNameMap

from stentor.model.config import ModelConfig
from stentor.model.gguf_names import gguf_name, hugging_face_name, row_order
from stentor.model.names import expected_shapes

CONFIG = ModelConfig(hidden_size=64, num_hidden_layers=12, num_attention_heads=4, num_key_value_heads=2, head_dim=6)


@pytest.mark.parametrize(("carrier", "architecture"), [("llama", MODEL_ARCH.LLAMA), ("qwen3", MODEL_ARCH.QWEN3)])
def test_names_are_those_of_the_reference_package(carrier, architecture):
    theirs = TensorNameMap(architecture, 12)
    for name in expected_shapes(dataclasses.replace(CONFIG, carrier=carrier, tie_word_embeddings=False)):
        assert gguf_name(name) == theirs.get_name(name, try_suffixes=(".weight",))
        assert hugging_face_name(gguf_name(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "rope_freqs.weight",
        "blk.0.attn_q.bias",
        "blk.00.attn_q.weight",
        "blk.-1.attn_q.weight",
        "blk.\u0663.attn_q.weight",
        "model.norm.weight",
        "blk.0.attn_q.weight\n",
        "",
    ],
)
def test_names_that_no_carrier_has_never_pass_for_one(name):
    assert hugging_face_name(name) == repr(name)


@pytest.mark.parametrize(("part", "heads"), [("q", 4), ("k", 2)])
def test_rows_of_a_llama_are_interleaved_by_definition(part, heads):
    order = row_order(f"model.layers.3.self_attn.{part}_proj.weight", CONFIG)
    assert order is not None
    assert sorted(order) == list(range(heads * 6))
    for head in range(heads):
        for i in range(3):
            assert order[6 * head + 2 * i] == 6 * head + i
            assert order[6 * head + 2 * i + 1] == 6 * head + i + 3


def test_everything_else_stays_where_it_is():
    for name in expected_shapes(CONFIG):
        assert (row_order(name, CONFIG) is None) == (not name.endswith(("q_proj.weight", "k_proj.weight")))
        assert row_order(name, dataclasses.replace(CONFIG, carrier="qwen3")) is None


def test_sorting_the_order_undoes_it():
    order = row_order("model.layers.0.self_attn.q_proj.weight", CONFIG)
    assert order is not None
    rows = np.arange(24)
    assert np.array_equal(rows[order][np.argsort(order)], rows)
