"""Logits and settings of every kind, for the tests of sampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from stentor.runtime.sampling import Sampling, SamplingState

EOS = 0
SMALL = st.integers(2, 60)
_LARGEST = {"top_p": 1.0, "min_p": 1.0, "typical_p": 1.0, "temperature": 100.0}


@st.composite
def logits(draw, sizes=SMALL) -> np.ndarray:
    """Return float32 logits [V]: natural, tied, nearly uniform, one-hot or huge, with some tokens forbidden."""
    vocab_size = draw(sizes)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    natural_V = generator.normal(size=vocab_size) * draw(st.floats(0.1, 8))
    kinds = {
        "natural": natural_V,
        "tied": np.round(natural_V),
        "nearly uniform": natural_V * 1e-6,
        "tiny": natural_V * 1e-30,
        "uniform": np.zeros(vocab_size),
        "one-hot": np.eye(vocab_size)[generator.integers(vocab_size)] * 1000,
        "huge": natural_V * 1e30,
    }
    logits_V = kinds[draw(st.sampled_from(sorted(kinds)))].astype(np.float32)
    forbidden = generator.random(vocab_size) < draw(st.sampled_from([0, 0, 0.1, 0.9]))
    forbidden[: 2 + EOS] = False
    return np.where(forbidden, np.float32(-np.inf), logits_V)


@st.composite
def samplings(draw, *, vocab_size: int) -> Sampling:
    """Return settings, each of them often at the value that changes nothing."""

    def often(neutral, others):
        return draw(st.one_of(st.just(neutral), others))

    biases = st.dictionaries(st.integers(0, vocab_size - 1), st.floats(-20, 20, width=32), max_size=4)
    return Sampling(
        temperature=often(1.0, st.floats(0.01, 5)),
        top_k=often(0, st.integers(0, vocab_size + 5)),
        top_p=often(1.0, st.floats(0.01, 1)),
        min_p=often(0.0, st.floats(0, 1)),
        typical_p=often(1.0, st.floats(0.01, 1)),
        repetition_penalty=often(1.0, st.floats(0.1, 5)),
        presence_penalty=often(0.0, st.floats(-3, 3)),
        frequency_penalty=often(0.0, st.floats(-3, 3)),
        logit_bias=often({}, biases),
        min_new_tokens=often(0, st.integers(0, 6)),
        ignore_eos=draw(st.booleans()),
    )


def token_ids(vocab_size: int, *, min_size: int = 0) -> st.SearchStrategy[list[int]]:
    """Return ids of which some come several times."""
    return st.lists(st.integers(0, min(vocab_size - 1, 12)), min_size=min_size, max_size=8)


@st.composite
def cases(draw, sizes=SMALL) -> tuple[np.ndarray, Sampling, list[int], list[int]]:
    """Return logits, settings, prompt and output."""
    logits_V = draw(logits(sizes))
    ids = token_ids(logits_V.size)
    prompt_ids = draw(token_ids(logits_V.size, min_size=1))
    return logits_V, draw(samplings(vocab_size=logits_V.size)), prompt_ids, draw(ids)


def state_of(sampling: Sampling, prompt_ids: list[int], output_ids: list[int], vocab_size: int) -> SamplingState:
    """Return the state after this prompt and output."""
    state = SamplingState(sampling, prompt_ids, vocab_size=vocab_size, eos_token_id=EOS)
    for token_id in output_ids:
        state.push(token_id)
    return state


def assume_no_border_is_touched(probs_of: Callable[[Sampling], np.ndarray], sampling: Sampling) -> np.ndarray:
    """Return the probabilities; leave out cases in which rounding decides whether a token is kept.

    Such a token moves the probabilities of all others, so two right answers can differ by much.
    """
    probs_V = probs_of(sampling)
    for factor in (1 - 1e-9, 1 + 1e-9):
        for name in ("top_p", "min_p", "typical_p", "temperature"):
            moved = dataclasses.replace(sampling, **{name: min(getattr(sampling, name) * factor, _LARGEST[name])})
            assume(np.abs(probs_of(moved) - probs_V).max() < 1e-6)
    if sampling.typical_p < 1:
        assume(has_a_clear_surprise_border(probs_of(dataclasses.replace(sampling, typical_p=1.0)), probs_V > 0))
    return probs_V


def has_a_clear_surprise_border(probs_V: np.ndarray, is_kept_V: np.ndarray) -> bool:
    """Whether no token is as typical as the last one kept, up to rounding, unless it is just as likely.

    Args:
        probs_V: before typical sampling, which orders tokens by sums that are rounded.
        is_kept_V: what it keeps.
    """
    possible = np.flatnonzero(probs_V)
    surprises = -np.log(probs_V[possible])
    distances = np.abs(surprises - probs_V[possible] @ surprises)
    is_on_border = np.abs(distances - distances[is_kept_V[possible]].max()) < 1e-12
    return np.unique(probs_V[possible][is_on_border]).size == 1


def assert_equal_but_for_ties(
    ours_V: np.ndarray, theirs_V: np.ndarray, scores_V: np.ndarray, *, atol: float = 1e-9
) -> None:
    """Compare probabilities; which of several tokens with the same score are kept is nobody's promise."""
    np.testing.assert_allclose(
        ours_V[np.lexsort((ours_V, scores_V))], theirs_V[np.lexsort((theirs_V, scores_V))], atol=atol, rtol=0
    )
