"""The learning rate at its corners, and its shape in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.config import TrainConfig
from stentor.train.schedule import learning_rate

CONFIG = TrainConfig(lr=1e-3, warmup_steps=10, min_lr_ratio=0.1)


def test_corners():
    assert learning_rate(0, 100, CONFIG) == pytest.approx(1e-4)
    assert learning_rate(9, 100, CONFIG) == pytest.approx(1e-3)
    assert learning_rate(10, 100, CONFIG) == pytest.approx(1e-3)
    assert learning_rate(55, 100, CONFIG) == pytest.approx(0.55e-3)
    assert learning_rate(100, 100, CONFIG) == pytest.approx(1e-4)


def test_no_warmup():
    assert learning_rate(0, 100, TrainConfig(lr=1.0, warmup_steps=0)) == pytest.approx(1.0)


def test_a_warmup_longer_than_the_run():
    rates = [learning_rate(step, 5, CONFIG) for step in range(5)]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])


@given(st.integers(1, 500), st.integers(0, 100))
def test_it_rises_then_falls_and_stays_in_range(num_steps, warmup_steps):
    config = TrainConfig(lr=2e-3, warmup_steps=warmup_steps, min_lr_ratio=0.05)
    rates = [learning_rate(step, num_steps, config) for step in range(num_steps)]
    assert all(0 < rate <= config.lr * (1 + 1e-12) for rate in rates)
    rising, falling = rates[:warmup_steps], rates[warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
