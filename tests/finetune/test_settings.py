"""What is refused before anything is read, and how much work settings mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.finetune.settings import FinetuneSettings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 0}, "--rank is 0"),
        ({"epochs": -1.0}, "--epochs is -1.0"),
        ({"lr": math.nan}, "--lr is nan"),
        ({"lr": math.inf}, "--lr is inf"),
        ({"batch": 0}, "--batch is 0"),
        ({"alpha": -3.0}, "--alpha is -3.0"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 1 << 63}, "--seed is"),
        ({"quantize": "3bit"}, "--quantize is '3bit'"),
    ],
)
def test_settings_out_of_range_are_refused_with_a_fix(changes, said):
    with pytest.raises(UserError, match=said) as caught:
        FinetuneSettings(**changes)
    assert caught.value.fix


def test_alpha_is_twice_the_rank_where_none_is_given():
    assert FinetuneSettings(rank=5).to_dict()["alpha"] == 10
    assert FinetuneSettings(rank=5, alpha=3.0).to_dict()["alpha"] == 3


@given(windows=st.integers(1, 10**6), batch=st.integers(1, 512), epochs=st.floats(0.001, 20))
def test_steps_cover_the_epochs_and_hardly_more(windows, batch, epochs):
    steps = FinetuneSettings(epochs=epochs, batch=batch).num_steps(windows)
    assert steps >= 1
    assert steps * batch >= epochs * windows * (1 - 1e-9)
    assert (steps - 1) * batch <= epochs * windows
