"""What is said to have happened to a checkpoint whose tensors are others than its sizes demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.model.config import ModelConfig
from stentor.model.mismatch import likely_reason
from stentor.model.names import expected_shapes

EXPECTED = list(expected_shapes(ModelConfig(vocab_size=32, num_hidden_layers=2, tie_word_embeddings=False)))
NAMES = set(EXPECTED)


def reason(names) -> str:
    missing = [name for name in EXPECTED if name not in names]
    return likely_reason(missing, [name for name in names if name not in NAMES], expected=NAMES)


@pytest.mark.parametrize("prefix", ["_fsdp_wrapped_module.", "base.network.", "model."])
def test_a_wrapper_before_every_name_is_named(prefix):
    assert f"a wrapper left {prefix!r} before the names" in reason([prefix + name for name in EXPECTED])


def test_a_prefix_before_some_names_only_is_no_wrapper():
    assert "wrapper" not in reason(["x." + EXPECTED[0], *EXPECTED[1:-1], "y." + EXPECTED[-1]])


def test_a_network_saved_without_its_head_lacks_the_first_word():
    assert "'model.' is missing before the names" in reason([name.removeprefix("model.") for name in EXPECTED])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "LoRA adapter"),
        ("model.layers.0.self_attn.q_proj.qweight", "packed by a quantizer"),
        ("model.layers.0.self_attn.q_proj.SCB", "bitsandbytes"),
        ("model.layers.0.self_attn.q_proj.bias", "network with biases"),
        ("transformer.h.0.attn.c_attn.weight", "another architecture"),
        ("optimizer.exp_avg.0", "state of training"),
    ],
)
def test_what_a_name_tells(name, words):
    assert words in reason([*EXPECTED[1:], name])


def test_a_head_alone_that_is_missing_may_be_tied():
    assert "tie_word_embeddings" in reason([name for name in EXPECTED if name != "lm_head.weight"])


def test_more_layers_than_the_sizes_tell_of():
    assert "fewer layers" in reason([*EXPECTED, "model.layers.2.mlp.up_proj.weight"])


def test_a_tensor_that_is_missing_was_cut_off():
    assert "another model, or was cut short" in reason(EXPECTED[:-2])


def test_nothing_is_said_where_nothing_is_known():
    assert reason([*EXPECTED, "x"]) == ""


@given(st.lists(st.sampled_from(EXPECTED)), st.lists(st.text(max_size=30)))
def test_any_names_give_one_line_or_none(kept, others):
    assert "\n" not in reason([*kept, *(name for name in others if "\n" not in name)])
