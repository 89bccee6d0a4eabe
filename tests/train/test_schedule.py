"""The rates at their corners, and their shape in between."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.config import TrainConfig
from stentor.train.schedule import FIRST_MOMENTUM, MOMENTUM_WARMUP_STEPS, learning_rate_factor, rates

COSINE = TrainConfig(warmup_steps=10, min_lr_ratio=0.1)
LINEAR = TrainConfig(schedule="linear", warmup_steps=10, decay_ratio=0.4, min_lr_ratio=0.1)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.55), (100, 0.1), (200, 0.1)]
)
def test_corners_of_the_cosine(step, expected):
    assert learning_rate_factor(step, 100, COSINE) == pytest.approx(expected)


def test_the_cosine_in_between():
    for step in (20, 40, 70, 99):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2
        assert learning_rate_factor(step, 100, COSINE) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (9, 1.0), (10, 1.0), (59, 1.0), (60, 1.0), (80, 0.55), (90, 0.325), (100, 0.1)]
)
def test_corners_of_the_line(step, expected):
    assert learning_rate_factor(step, 100, LINEAR) == pytest.approx(expected)


def test_a_line_over_the_whole_run_begins_where_the_warmup_ends():
    config = TrainConfig(schedule="linear", warmup_steps=20, decay_ratio=1.0)
    assert [learning_rate_factor(step, 100, config) for step in (19, 20, 60, 100)] == pytest.approx([1, 1, 0.5, 0])


def test_without_a_decay_the_line_stays_at_the_peak():
    config = TrainConfig(schedule="linear", warmup_steps=0, decay_ratio=0.0, min_lr_ratio=0.25)
    assert {learning_rate_factor(step, 30, config) for step in range(30)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_no_warmup(schedule):
    assert learning_rate_factor(0, 100, TrainConfig(schedule=schedule, warmup_steps=0)) == 1.0


@pytest.mark.parametrize("config", [COSINE, LINEAR])
def test_a_warmup_longer_than_the_run(config):
    factors = [learning_rate_factor(step, 5, config) for step in range(5)]
    assert factors == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_run_of_one_step_learns(schedule):
    assert learning_rate_factor(0, 1, TrainConfig(schedule=schedule, warmup_steps=0)) == 1.0


def test_momentum_warms_up_in_a_straight_line():
    config = TrainConfig(momentum=0.95)
    half = MOMENTUM_WARMUP_STEPS // 2
    found = [rates(step, 1000, config).momentum for step in (0, half, MOMENTUM_WARMUP_STEPS, 900)]
    assert found == pytest.approx([FIRST_MOMENTUM, (FIRST_MOMENTUM + 0.95) / 2, 0.95, 0.95])


def test_a_momentum_below_the_first_is_come_down_to():
    config = TrainConfig(momentum=0.5)
    found = [rates(step, 1000, config).momentum for step in range(MOMENTUM_WARMUP_STEPS + 2)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.5)


def test_rates_are_the_factor_and_the_momentum():
    found = rates(55, 100, COSINE)
    assert found.factor == learning_rate_factor(55, 100, COSINE)
    assert found._fields == ("factor", "momentum")


configs = st.builds(
    TrainConfig,
    schedule=st.sampled_from(["cosine", "linear"]),
    warmup_steps=st.integers(0, 100),
    decay_ratio=st.floats(0, 1),
    min_lr_ratio=st.floats(0, 1),
    momentum=st.floats(0, 0.99),
)


@given(st.integers(1, 400), configs)
def test_it_rises_then_falls_and_stays_in_range(num_steps, config):
    factors = [learning_rate_factor(step, num_steps, config) for step in range(num_steps)]
    assert all(0 < factor <= 1 + 1e-12 for factor in factors)
    rising, falling = factors[: config.warmup_steps], factors[config.warmup_steps :]
    assert rising == sorted(rising)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(falling))
    assert all(factor >= config.min_lr_ratio - 1e-12 for factor in falling)


@given(st.integers(1, 400), configs)
def test_the_whole_budget_spent_the_rate_is_at_its_floor(num_steps, config):
    if num_steps > config.warmup_steps and (config.schedule == "cosine" or config.decay_ratio > 0.5 / num_steps):
        assert learning_rate_factor(num_steps, num_steps, config) == pytest.approx(config.min_lr_ratio, abs=1e-12)


@given(st.integers(0, 2000), configs)
def test_momentum_lies_between_the_first_and_the_last(step, config):
    low, high = sorted((FIRST_MOMENTUM, config.momentum))
    assert low - 1e-12 <= rates(step, 2000, config).momentum <= high + 1e-12
