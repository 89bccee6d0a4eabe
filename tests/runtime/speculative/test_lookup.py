"""What came after the same tokens before, against the slow search that looks everywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stentor.runtime.sampling import Sampling, SamplingState, generator_of
from stentor.runtime.speculative.lookup import MAX_MATCH, MIN_MATCH, LookupDraft

STATE = SamplingState(Sampling(), [1], vocab_size=9, eos_token_id=0)


def looked_up(draft: LookupDraft, token_ids: list[int], num_steps: int) -> list[int]:
    proposal = draft.propose(token_ids, STATE, num_steps, generator_of(0))
    assert proposal.probs is None
    assert proposal.num_steps == len(proposal.token_ids)
    return list(proposal.token_ids)


def searched(token_ids: list[int], num_steps: int) -> list[int]:
    """Return the continuation of the longest match, of equals the latest, by looking at every place."""
    for size in range(MAX_MATCH, MIN_MATCH - 1, -1):
        for place in range(len(token_ids) - 1, size - 1, -1):
            if token_ids[place - size : place] == token_ids[-size:] and len(token_ids) >= size:
                longer = list(token_ids)
                for step in range(num_steps):
                    longer.append(longer[place + step])
                return longer[len(token_ids) :]
    return []


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=40), st.lists(st.integers(1, 5), max_size=20), st.integers(1, 6)
)
def test_the_longest_match_is_found_however_the_text_grew(token_ids, sizes, num_steps):
    draft, length = LookupDraft(), 1
    for size in [*sizes, len(token_ids)]:
        length = min(len(token_ids), length + size)
        assert looked_up(draft, token_ids[:length], num_steps) == searched(token_ids[:length], num_steps)


def test_a_text_that_repeats_itself_goes_on():
    assert looked_up(LookupDraft(), [7, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]
    assert looked_up(LookupDraft(), [5, 5, 5], 3) == [5, 5, 5]


def test_nothing_is_proposed_for_what_is_new():
    assert looked_up(LookupDraft(), [1, 2, 3, 4], 3) == []
    assert looked_up(LookupDraft(), [1], 3) == []


def test_no_random_number_is_used():
    generator = generator_of(0)
    LookupDraft().propose([1, 2, 1, 2], STATE, 2, generator)
    assert generator.random() == np.random.default_rng(np.random.SeedSequence(0)).random()
