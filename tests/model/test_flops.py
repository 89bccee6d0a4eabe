"""The cost of a token, counted by hand and by torch itself; and peaks that are known or not there."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from stentor.model.config import ModelConfig
from stentor.model.flops import peak_flops, training_flops_per_token
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.loss import shifted_loss
from stentor.model.ops import Way
from stentor.model.presets import PRESETS

TERA = 1e12


def test_the_reference_shape_takes_92_6_megaflop_a_token():
    assert training_flops_per_token(PRESETS["stentor2-12m"]) == 92_602_368


def test_a_tiny_shape_by_hand(tiny_config):
    layer = 32 * (32 + 2 * 32) + 32 * 32 + 3 * 32 * 64
    assert training_flops_per_token(tiny_config) == 6 * (2 * layer + 384 * 32) + 6 * 2 * 32 * 32


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 1}, {"carrier": "qwen3"}, {"head_dim": 32}])
def test_torch_counts_the_same_but_for_the_half_that_causality_saves(tiny_config, changes, monkeypatch):
    monkeypatch.setattr(Llama, "way", Way.PLAIN)  # what compiled loops do is not counted
    config = dataclasses.replace(tiny_config, **changes)
    model = Llama(config)
    initialize(model, seed=0)
    ids_BT = torch.randint(config.vocab_size, (3, config.max_position_embeddings))
    backends = [torch.nn.attention.SDPBackend.MATH]
    with torch.nn.attention.sdpa_kernel(backends), FlopCounterMode(display=False) as counter:
        total_nats, _ = shifted_loss(model, ids_BT, ids_BT)
        total_nats.backward()
    width = config.num_attention_heads * config.head_dim
    unmasked = 6 * config.num_hidden_layers * config.max_position_embeddings * width
    assert counter.get_total_flops() == ids_BT.numel() * (training_flops_per_token(config) + unmasked)


def test_an_untied_head_costs_no_more():
    tied = ModelConfig()
    untied = dataclasses.replace(tied, tie_word_embeddings=False)
    assert training_flops_per_token(untied) == training_flops_per_token(tied)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
    ],
)
def test_known_peaks_in_float16(name, teraflops):
    assert peak_flops(name, "float16") == teraflops * TERA


@pytest.mark.parametrize("name", ["Tesla T4", "Tesla V100-SXM2-16GB"])
def test_what_has_no_bfloat16_has_no_peak_of_it(name):
    assert peak_flops(name, "bfloat16") is None


def test_a_newer_one_multiplies_both_at_one_rate():
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989 * TERA


@pytest.mark.parametrize(
    "name",
    [
        *("cpu", "", "mps", "NVIDIA A10G", "NVIDIA L40", "NVIDIA L40S", "NVIDIA H100 NVL", "NVIDIA GeForce RTX 4090 D"),
        *("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA H200 NVL", "NVIDIA GH200"),
    ],
)
def test_relatives_and_slices_are_not_taken_for_what_they_are_not(name):
    assert peak_flops(name, "float16") is None


def test_products_in_float32_have_no_peak():
    assert peak_flops("NVIDIA H100 80GB HBM3", "float32") is None


@given(st.text(max_size=30), st.sampled_from(["float16", "bfloat16"]))
def test_any_name_has_a_known_peak_or_none(name, precision):
    assert peak_flops(name, precision) in {None, *(value * TERA for value in (65, 71, 112, 121, 125, 165, 312))}
