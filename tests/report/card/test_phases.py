"""Phases of a run: they cover every update once, and their borders are what they say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.report.card.phases import FAST, MOST, phases
from stentor.report.run_log import RunLog


def test_an_exponential_fall(log):
    found = phases(log)
    assert [phase.name for phase in found] == ["fast fall", "slow fall", "late", "after the best"]
    fast, slow, late, after = found
    # 1 - exp(-s/100) = 0.8 at s = 161 and 0.95 at s = 300; smoothing over ten updates comes some steps later.
    assert fast.last_step == pytest.approx(-100 * math.log(1 - FAST), abs=10)
    assert slow.last_step == pytest.approx(-100 * math.log(1 - MOST), abs=10)
    assert (late.last_step, after.first_step, after.last_step) == (900, 901, 1000)
    before, end = after.held_out_nats
    assert before is not None
    assert end == pytest.approx(before + 0.3, abs=0.01)
    assert fast.held_out_nats[0] is None
    assert (fast.lr, fast.grad_norm) == ((1e-3, 1e-3), (1.0, 1.0))


def test_a_run_whose_last_evaluation_is_the_best(log):
    found = phases(RunLog(log.train, log.evaluations[:-1]))
    assert [phase.name for phase in found] == ["fast fall", "slow fall", "late", "after the best"]
    whole = phases(RunLog(log.train, ()))
    assert [phase.name for phase in whole] == ["fast fall", "slow fall", "late"]
    assert all(phase.held_out_nats == (None, None) for phase in whole)


@given(st.lists(st.floats(0.1, 12.0), min_size=0, max_size=150), st.integers(0, 150))
def test_every_update_is_in_one_phase(losses, best):
    records = [{"step": 2 * i + 1, "tokens_seen": 100 * (i + 1), "loss_nats": loss} for i, loss in enumerate(losses)]
    evaluations = ({"step": best, "loss_nats": 1.0},) if best else ()
    found = phases(RunLog(tuple(records), evaluations))
    if found:
        assert found[0].first_step == 1
        assert found[-1].last_step == records[-1]["step"]
        assert all(one.last_step + 2 == other.first_step for one, other in pairwise(found))
        assert sum(phase.num_tokens for phase in found) == records[-1]["tokens_seen"]
        assert all(phase.lr is None and phase.grad_norm is None for phase in found)


def test_too_few_updates_or_no_fall(made):
    assert phases(RunLog(tuple(made.train(step) for step in range(1, 8)), ())) == []
    assert phases(RunLog(tuple(made.train(step, 2.0) for step in range(1, 80)), ())) == []


@given(st.integers(12, 400), st.floats(0.5, 5.0), st.floats(0.01, 0.5))
def test_borders_are_where_the_fall_has_made_its_shares(num_updates, height, rate):
    losses = [2 + height * math.exp(-rate * step) for step in range(num_updates)]
    records = tuple({"step": i + 1, "tokens_seen": i + 1, "loss_nats": loss} for i, loss in enumerate(losses))
    found = phases(RunLog(records, ()))
    fall = found[0].loss_nats[0] - min(phase.loss_nats[1] for phase in found)
    for phase, share in zip(found, (FAST, MOST), strict=False):
        assert found[0].loss_nats[0] - phase.loss_nats[1] >= share * fall - 1e-9
    assert sum(phase.last_step - phase.first_step + 1 for phase in found) == num_updates


@pytest.mark.parametrize("name", ["lr", "grad_norm"])
@pytest.mark.parametrize("value", [None, "much", []])
def test_what_a_log_does_not_say_is_left_out(log, name, value):
    records = tuple({**record, name: value} for record in log.train)
    assert all(getattr(phase, name) is None for phase in phases(RunLog(records, log.evaluations)))


def test_an_evaluation_before_the_first_logged_update(made):
    """A run that logs rarely may be evaluated before it has logged anything."""
    records = tuple(made.train(step, 3 + 5 * math.exp(-step / 50)) for step in range(100, 1100, 10))
    found = phases(RunLog(records, (made.evaluation(50, 1.0),)))
    assert (found[0].first_step, found[-1].last_step) == (100, 1090)
    assert found[-1].name == "after the best"
