"""One token: the exact distribution of what comes out, for any two distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speculative_cases import outcomes, patch_draws

from stentor.runtime.sampling import draw, generator_of
from stentor.runtime.speculative.verification import Proposal, happens, residual, verified


def distributions(size: int = 5):
    """Return a strategy of distributions, some with probabilities of exactly 0."""
    weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1)), min_size=size, max_size=size)
    return weights.filter(any).map(lambda values: np.array(values) / sum(values))


@pytest.fixture(autouse=True, scope="module")
def chance_decides():
    with pytest.MonkeyPatch.context() as patch:
        patch_draws(patch)
        yield


def out_of(target_V, draft_V) -> np.ndarray:
    """Return the probabilities [V] of the token that comes out where the draft's is drawn."""

    def program(chance: Any) -> tuple[int, ...]:
        proposed = chance.choose(draft_V)
        return (verified(target_V, proposed, draft_V, chance),)

    found = outcomes(program)
    return np.array([found.get((token_id,), 0.0) for token_id in range(target_V.size)])


@given(target_V=distributions(), draft_V=distributions())
def test_a_drawn_token_comes_out_as_the_target_would_draw_it(target_V, draft_V):
    np.testing.assert_allclose(out_of(target_V, draft_V), target_V, atol=1e-12)


@given(target_V=distributions(), proposed=st.integers(0, 4))
def test_a_chosen_token_comes_out_as_the_target_would_draw_it(target_V, proposed):
    def program(chance: Any) -> tuple[int, ...]:
        return (verified(target_V, proposed, None, chance),)

    found = outcomes(program)
    assert {token_id for (token_id,) in found} == set(np.flatnonzero(target_V).tolist())
    assert all(found[(token_id,)] == pytest.approx(target_V[token_id]) for (token_id,) in found)


@given(target_V=distributions(), draft_V=distributions())
def test_as_many_are_kept_as_can_be(target_V, draft_V):
    """No rule keeps more: the share kept is one less half the distance of the distributions."""

    def program(chance: Any) -> tuple[int, ...]:
        proposed = chance.choose(draft_V)
        return (int(verified(target_V, proposed, draft_V, chance) == proposed),)

    kept = outcomes(program).get((1,), 0.0)
    assert kept == pytest.approx(1 - np.abs(target_V - draft_V).sum() / 2, abs=1e-12)


@given(target_V=distributions(), draft_V=distributions())
def test_the_rule_for_chosen_tokens_is_that_of_drawn_ones_with_all_on_one(target_V, draft_V):
    proposed = int(draft_V.argmax())
    all_on_one_V = np.eye(5)[proposed]
    np.testing.assert_allclose(out_of(target_V, all_on_one_V), target_V, atol=1e-12)


@given(target_V=distributions(), draft_V=distributions())
def test_what_is_left_is_a_distribution_without_what_the_draft_had_too_much_of(target_V, draft_V):
    left_V = residual(target_V, draft_V)
    assert left_V.sum() == pytest.approx(1)
    if np.abs(target_V - draft_V).max() > 1e-9:
        assert not left_V[draft_V >= target_V].any()


def test_equal_distributions_leave_the_target():
    target_V = np.array([0.25, 0.75])
    np.testing.assert_array_equal(residual(target_V, target_V), target_V)


def test_draws_with_real_random_numbers(monkeypatch):
    """Chi-square, for what enumeration takes for granted: that draws and events have their probabilities."""
    monkeypatch.undo()
    target_V, draft_V = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.4, 0.1, 0.4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stentor.runtime.speculative.verification.draw", draw)
        patch.setattr("stentor.runtime.speculative.verification.happens", happens)
        for proposed_from in (draft_V, None):
            generator, num_draws = generator_of(1), 20_000
            proposed = [1 if proposed_from is None else draw(draft_V, generator) for _ in range(num_draws)]
            made = [verified(target_V, token_id, proposed_from, generator) for token_id in proposed]
            counts = np.bincount(made, minlength=4)
            expected = target_V[:3] * num_draws
            assert counts[3] == 0
            assert float(((counts[:3] - expected) ** 2 / expected).sum()) < 13.8  # 2 degrees of freedom, p = 0.001


def test_an_event_has_its_probability():
    generator = generator_of(2)
    assert sum(happens(0.3, generator) for _ in range(10_000)) == pytest.approx(3000, abs=150)
    assert all(happens(1.0, generator) and happens(1.7, generator) and not happens(0.0, generator) for _ in range(50))


def test_a_proposal_is_cut_with_its_distributions():
    probs = [np.eye(3)[token_id] for token_id in (2, 0, 1)]
    proposal = Proposal([2, 0, 1], probs, num_steps=3)
    cut = proposal.shortened(2)
    assert (cut.token_ids, len(cut.probs or ()), cut.num_steps) == ([2, 0], 2, 3)
    assert cut.at(1)[0] == 0
    assert cut.at(1)[1] is probs[1]
    assert proposal.shortened(3) is proposal
    assert Proposal([4, 5]).shortened(1).at(0) == (4, None)
