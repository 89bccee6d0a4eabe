"""The length follows what is seen: acceptance, and what steps and passes take."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from stentor.runtime.speculative.length import FIRST_STEPS, LONGEST_PAUSE, MAX_STEPS, DraftLength


def simulated(
    length: DraftLength, *, rate: float, step: float, plain: float, per_token: float, num_rounds: int, per_step: int = 1
) -> list[int]:
    """Return the lengths chosen with these times in seconds, where tokens are kept with this probability."""
    generator, chosen = np.random.default_rng(0), []
    for _ in range(num_rounds):
        num_steps = length.choose()
        chosen.append(num_steps)
        num_proposed = per_step * num_steps
        noise = 1 + 0.1 * generator.random(2)
        length.learn_times(
            num_steps=num_steps,
            draft_seconds=num_steps * step * noise[0],
            num_proposed=num_proposed,
            pass_seconds=(plain + per_token * num_proposed) * noise[1],
        )
        for _ in range(num_proposed):
            is_kept = bool(generator.random() < rate)
            length.learn_token(is_kept=is_kept)
            if not is_kept:
                break
    return chosen


def best(*, rate: float, step: float, plain: float, per_token: float) -> int:
    """Return the best length by adding up the tokens of a round one by one: the slow twin of the formula."""

    def ratio(num_steps: int) -> float:
        num_tokens = sum(rate**place for place in range(num_steps + 1))
        return num_tokens / (num_steps * step + plain + per_token * num_steps)

    return max(range(MAX_STEPS + 1), key=ratio)


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("step", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("per_token", [0.01, 0.2])
def test_the_best_length_is_found(rate, step, per_token):
    costs: dict[str, Any] = {"rate": rate, "step": step, "plain": 1.0, "per_token": per_token}
    chosen = simulated(DraftLength(), **costs, num_rounds=400)
    assert abs(np.median(chosen[200:]) - best(**costs)) <= max(1, 0.35 * best(**costs))


def test_a_draft_that_does_not_pay_is_left_alone_but_tried_again():
    chosen = simulated(DraftLength(), rate=0.1, step=0.9, plain=1.0, per_token=0.5, num_rounds=1500)
    tried = [place for place, num_steps in enumerate(chosen) if num_steps and place > 60]
    assert {chosen[place] for place in tried} == {FIRST_STEPS}
    pauses = [later - place - 1 for place, later in pairwise(tried) if later > place + 1]
    assert pauses[-1] == LONGEST_PAUSE
    assert all(later == min(2 * pause, LONGEST_PAUSE) for pause, later in pairwise(pauses))
    assert len(tried) / len(chosen) < 0.03


def test_what_a_draft_reads_of_a_prompt_is_no_measure_of_its_steps():
    length = DraftLength()

    def round_of(step: float) -> int:
        num_steps = length.choose()
        length.learn_times(
            num_steps=num_steps, draft_seconds=num_steps * step, num_proposed=num_steps, pass_seconds=1 + num_steps / 50
        )
        for _ in range(num_steps):
            length.learn_token(is_kept=True)
        return num_steps

    for _ in range(20):
        length.begin_text()
        assert round_of(500.0) in (0, FIRST_STEPS, MAX_STEPS)  # it is only known once another round has followed
        late = [round_of(0.05) for _ in range(6)][-1]
        assert late == MAX_STEPS


def test_a_draft_that_was_slow_for_a_while_is_taken_up_again():
    length = DraftLength()
    costs: dict[str, Any] = {"rate": 0.9, "plain": 1.0, "per_token": 0.01}
    assert set(simulated(length, **costs, step=5.0, num_rounds=200)[150:]) == {0, FIRST_STEPS}
    assert np.median(simulated(length, **costs, step=0.05, num_rounds=400)[300:]) >= 8


def test_a_draft_becomes_worth_it_again():
    length = DraftLength()
    costs: dict[str, Any] = {"step": 0.1, "plain": 1.0, "per_token": 0.01}
    assert np.median(simulated(length, rate=0.0, **costs, num_rounds=300)[200:]) == 0
    assert np.median(simulated(length, rate=0.95, **costs, num_rounds=1500)[1200:]) >= 4


def test_tokens_of_another_vocabulary_count_as_what_they_become():
    """A step that makes two tokens is worth as much as two steps at half the time."""
    two = simulated(DraftLength(), rate=0.8, step=0.2, plain=1.0, per_token=0.01, num_rounds=400, per_step=2)
    one = best(rate=0.8, step=0.1, plain=1.0, per_token=0.01)
    assert abs(2 * np.median(two[200:]) - one) <= 2


def test_a_fixed_length_stays():
    assert set(simulated(DraftLength(3), rate=0.1, step=9, plain=1, per_token=1, num_rounds=50)) == {3}


def test_acceptance_is_a_share_of_recent_tokens():
    length = DraftLength()
    for _ in range(500):
        length.learn_token(is_kept=False)
    for _ in range(500):
        length.learn_token(is_kept=True)
    assert length.acceptance_rate > 0.99


def test_one_slow_pass_changes_little():
    length = DraftLength()
    costs: dict[str, Any] = {"rate": 0.8, "step": 0.1, "plain": 1.0, "per_token": 0.05}
    simulated(length, **costs, num_rounds=200)
    before = length.choose()
    length.learn_times(num_steps=before, draft_seconds=before * 0.1, num_proposed=before, pass_seconds=8.0)
    assert abs(length.choose() - before) <= 3
