"""The loss's scale: down at an overflow, up after many good updates, and the end when nothing is left to give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.train.precision import FIRST_SCALE, GROWTH_INTERVAL, LARGEST_SCALE, SMALLEST_SCALE, LossScale

CPU = torch.device("cpu")


def adjusted(loss_scale: LossScale, is_finite: bool) -> bool:
    return bool(loss_scale.adjust(torch.tensor(is_finite)))


def test_an_overflow_halves_it_and_the_run_goes_on():
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    assert float(loss_scale.scale) == FIRST_SCALE
    for halvings in (1, 2, 3):
        assert adjusted(loss_scale, is_finite=False)
        assert float(loss_scale.scale) == FIRST_SCALE / 2**halvings


def test_good_updates_double_it_at_the_interval_and_no_sooner():
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    for _ in range(GROWTH_INTERVAL - 1):
        assert adjusted(loss_scale, is_finite=True)
    assert float(loss_scale.scale) == FIRST_SCALE
    adjusted(loss_scale, is_finite=True)
    assert float(loss_scale.scale) == 2 * FIRST_SCALE
    adjusted(loss_scale, is_finite=True)
    assert float(loss_scale.scale) == 2 * FIRST_SCALE


def test_an_overflow_begins_the_count_again():
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    loss_scale.load_state({"loss_scale": torch.tensor(64.0), "good_updates": torch.tensor(GROWTH_INTERVAL - 1.0)})
    adjusted(loss_scale, is_finite=False)
    for _ in range(3):
        adjusted(loss_scale, is_finite=True)
    assert float(loss_scale.scale) == 32
    assert float(loss_scale.state()["good_updates"]) == 3


def test_at_the_smallest_scale_an_overflow_is_the_end():
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    going = [adjusted(loss_scale, is_finite=False) for _ in range(18)]
    assert going == [True] * 16 + [False] * 2
    assert float(loss_scale.scale) == SMALLEST_SCALE
    assert adjusted(loss_scale, is_finite=True), "a good update can always be gone on from"


def test_it_never_grows_above_the_largest():
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    for _ in range(3):
        loss_scale.load_state(
            {"loss_scale": torch.tensor(LARGEST_SCALE), "good_updates": torch.tensor(GROWTH_INTERVAL - 1.0)}
        )
        adjusted(loss_scale, is_finite=True)
        assert float(loss_scale.scale) == LARGEST_SCALE


def test_where_it_is_not_needed_it_is_one_and_any_overflow_is_the_end():
    loss_scale = LossScale(is_dynamic=False, device=CPU)
    assert adjusted(loss_scale, is_finite=True)
    assert not adjusted(loss_scale, is_finite=False)
    assert float(loss_scale.scale) == 1
    assert loss_scale.state() == {}
    loss_scale.load_state({})


@pytest.mark.parametrize("num_before", [0, 5])
def test_a_loaded_state_goes_on_the_same(num_before):
    ours, theirs = (LossScale(is_dynamic=True, device=CPU) for _ in range(2))
    for step in range(num_before):
        adjusted(ours, is_finite=step != 2)
    theirs.load_state({name: tensor.clone() for name, tensor in ours.state().items()})
    for is_finite in (True, False, True):
        assert adjusted(ours, is_finite) == adjusted(theirs, is_finite)
    assert {n: float(t) for n, t in ours.state().items()} == {n: float(t) for n, t in theirs.state().items()}


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 24), st.integers(0, GROWTH_INTERVAL - 1))
def test_any_history_equals_the_rule_in_plain_numbers(history, power, good):
    loss_scale = LossScale(is_dynamic=True, device=CPU)
    scale = 2.0**power
    loss_scale.load_state({"loss_scale": torch.tensor(scale), "good_updates": torch.tensor(float(good))})
    for is_finite in history:
        expected = is_finite or scale > 1
        good = good + 1 if is_finite else 0
        if not is_finite:
            scale = max(1.0, scale / 2)
        elif good == GROWTH_INTERVAL:
            scale, good = min(2.0**24, scale * 2), 0
        assert adjusted(loss_scale, is_finite) == expected
        assert float(loss_scale.scale) == scale
        assert float(loss_scale.state()["good_updates"]) == good
