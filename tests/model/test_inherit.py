"""A smaller network begins as a part of a larger one: which part, and that its pieces still fit together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.inherit import FINAL_GAIN, MATRIX_GAIN, inherit, require_ancestor
from stentor.model.init import initialize
from stentor.model.llama import Llama

LARGE = ModelConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=16, carrier="qwen3",
)  # fmt: skip
SMALL = dataclasses.replace(
    LARGE, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1
)


def network(config: ModelConfig, seed: int = 0) -> Llama:
    """Return a network of which every weight, gains too, is another number."""
    model = Llama(config)
    initialize(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 0.3 * torch.rand(parameter.shape, generator=generator)
    return model.requires_grad_(requires_grad=False)


def inherited(config: ModelConfig, ancestor: Llama) -> Llama:
    model = Llama(config)
    inherit(model, ancestor)
    return model


def heaviest(weights: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(weights)), key=lambda i: -weights[i])[:count])


def channels_of(ancestor: Llama, count: int) -> list[int]:
    """The slow twin: one channel after another."""
    embedding, out, down = ancestor.embedding_VD, ancestor.attention_out_LDE, ancestor.down_LDF
    added = [float((out[:, c] ** 2).sum() + (down[:, c] ** 2).sum()) for c in range(embedding.shape[1])]
    known = [float((embedding[:, c] ** 2).sum()) for c in range(embedding.shape[1])]
    return heaviest([a / sum(added) + k / sum(known) for a, k in zip(added, known, strict=True)], count)


def test_a_channel_is_the_same_one_everywhere():
    ancestor = network(LARGE)
    model, channels = inherited(SMALL, ancestor), channels_of(ancestor, 16)
    assert torch.equal(model.embedding_VD, ancestor.embedding_VD[:, channels])
    assert torch.equal(model.final_norm_D, ancestor.final_norm_D[channels] * FINAL_GAIN)
    for place, layer in enumerate((0, 2, 4)):
        assert torch.equal(model.attention_norm_LD[place], ancestor.attention_norm_LD[layer, channels])
        assert torch.equal(model.mlp_norm_LD[place], ancestor.mlp_norm_LD[layer, channels])


def test_a_unit_keeps_its_gate_its_input_and_its_output():
    ancestor = network(LARGE)
    model, channels = inherited(SMALL, ancestor), channels_of(ancestor, 16)
    for place, layer in enumerate((0, 2, 4)):
        gate, up = ancestor.gate_up_LFD[layer].view(2, 48, 32)
        down = ancestor.down_LDF[layer]
        weights = [float((gate[f] ** 2).sum() * (up[f] ** 2).sum() * (down[:, f] ** 2).sum()) for f in range(48)]
        units = heaviest(weights, 24)
        expected = torch.cat((gate[units][:, channels], up[units][:, channels])) * MATRIX_GAIN
        assert torch.equal(model.gate_up_LFD[place], expected)
        assert torch.equal(model.down_LDF[place], down[channels][:, units] * MATRIX_GAIN)


def test_a_head_keeps_what_it_reads_and_what_it_writes():
    """Query heads stay with the key head that they share; queries and keys, which are normalised, keep their size."""
    ancestor = network(LARGE)
    model, channels = inherited(SMALL, ancestor), channels_of(ancestor, 16)
    for place, layer in enumerate((0, 2, 4)):
        qkv, out = ancestor.qkv_LED[layer], ancestor.attention_out_LDE[layer]
        values = [qkv[48 + 8 * k : 56 + 8 * k] for k in range(2)]
        weights = [float((values[k] ** 2).sum() * (out[:, 16 * k : 16 * k + 16] ** 2).sum()) for k in range(2)]
        (group,) = heaviest(weights, 1)
        query, key = qkv[16 * group : 16 * group + 16], qkv[32 + 8 * group : 40 + 8 * group]
        expected = torch.cat((query, key, values[group] * MATRIX_GAIN))[:, channels]
        torch.testing.assert_close(model.qkv_LED[place], expected, rtol=0, atol=0)
        columns = out[:, 16 * group : 16 * group + 16][channels] * MATRIX_GAIN
        torch.testing.assert_close(model.attention_out_LDE[place], columns, rtol=0, atol=0)
        assert torch.equal(model.q_norm_LH[place], ancestor.q_norm_LH[layer])


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_smaller_shape_can_be_a_part_and_computes(data):
    """A model of the ancestor's own shape is the ancestor, but for the gains."""
    groups = data.draw(st.integers(1, 2))
    config = dataclasses.replace(
        LARGE,
        hidden_size=data.draw(st.sampled_from((8, 24, 32))),
        intermediate_size=data.draw(st.sampled_from((8, 40, 48))),
        num_hidden_layers=data.draw(st.integers(1, 5)),
        num_key_value_heads=groups,
        num_attention_heads=groups * data.draw(st.integers(1, 2)),
        carrier=data.draw(st.sampled_from(("llama", "qwen3"))),
        tie_word_embeddings=data.draw(st.booleans()),
    )
    model = inherited(config, network(LARGE))
    assert torch.isfinite(model(torch.arange(6)[None])).all()


def test_of_its_own_size_it_is_the_ancestor_with_gains():
    ancestor = network(LARGE)
    model = inherited(LARGE, ancestor)
    assert torch.equal(model.down_LDF, ancestor.down_LDF * MATRIX_GAIN)
    assert torch.equal(model.q_norm_LH, ancestor.q_norm_LH)
    assert torch.equal(model.embedding_VD, ancestor.embedding_VD)


def test_an_untied_head_begins_as_the_ancestors_or_its_embedding():
    untied = dataclasses.replace(SMALL, tie_word_embeddings=False)
    ancestor = network(LARGE)
    assert torch.equal(inherited(untied, ancestor).head_VD, inherited(untied, ancestor).embedding_VD)
    ancestor = network(dataclasses.replace(LARGE, tie_word_embeddings=False))
    channels = channels_of(ancestor, 16)
    assert torch.equal(inherited(untied, ancestor).head_VD, ancestor.head_VD[:, channels])


def test_the_ancestor_is_not_changed():
    ancestor = network(LARGE)
    before = {name: weight.clone() for name, weight in ancestor.named_parameters()}
    inherited(SMALL, ancestor)
    assert all(torch.equal(before[name], weight) for name, weight in ancestor.named_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "a hidden_size of 64 cannot begin as a part of one with 32"),
        ({"num_hidden_layers": 6}, "a num_hidden_layers of 6"),
        ({"head_dim": 4}, "a head_dim of 4"),
        ({"vocab_size": 32}, "a vocab_size of 32"),
        ({"num_attention_heads": 4}, "4 query heads for each key head cannot be a part of 2"),
    ],
)
def test_what_cannot_be_a_part_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        require_ancestor(dataclasses.replace(SMALL, **changes), LARGE)
