"""Published shapes against the published counts."""

from __future__ import annotations

import pytest

from stentor.errors import UserError
from stentor.model.presets import PRESETS, preset


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("stentor2-12m", 12_294_400),
        ("stentor-30m-v1", 30_419_712),
        ("stentor2-30m", 30_353_920),
        ("stentor2-3m", 2_311_808),
        ("stentor-12m-v1", 12_047_040),
        ("tiny", 1_115_264),
    ],
)
def test_number_of_parameters(name, num_parameters):
    assert preset(name).num_parameters == num_parameters


def test_every_preset_is_counted_above():
    marks = test_number_of_parameters.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_heads_fill_the_hidden_size(name):
    config = preset(name)
    assert config.num_attention_heads * config.head_dim == config.hidden_size
    assert config.vocab_size % 128 == 0
    assert config.vocab_size <= 2**16, "token ids are stored as uint16"


def test_shapes_named_in_the_issue():
    two, one = preset("stentor2-12m"), preset("stentor-30m-v1")
    assert (two.hidden_size, two.intermediate_size, two.num_hidden_layers, two.num_attention_heads) == (256, 768, 12, 4)
    assert (two.vocab_size, two.max_position_embeddings) == (8064, 1024)
    assert (one.hidden_size, one.intermediate_size, one.num_hidden_layers, one.num_attention_heads) == (
        256,
        1024,
        21,
        4,
    )
    assert (one.vocab_size, one.max_position_embeddings) == (32_768, 512)


@pytest.mark.parametrize("name", ["stentor2-12", "", "Stentor2-12M"])
def test_unknown_name_is_refused_with_a_hint(name):
    with pytest.raises(UserError) as caught:
        preset(name)
    assert f"no model preset named {name!r}" in caught.value.message
    assert "stentor2-12m" in caught.value.fix
