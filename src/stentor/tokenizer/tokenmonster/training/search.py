"""Find the few tokens, out of many candidates, with which the encoder needs the fewest tokens for the text.

First pruning: tokenise the text with everything that is left, work out for each token how many tokens more the text
would need without it, drop the cheapest few percent, and so on down to the wanted size. Then swapping: add some of
what was dropped, chosen at random among the best, prune again, and keep the result where it is better. Every count is
the encoder's own, over the text; nothing depends on the clock or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stentor.tokenizer.tokenmonster.tables import VocabArrays
from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.training.scoring import Usage, fewest_tokens_for, measure_usage, removal_costs
from stentor.tokenizer.tokenmonster.training.state import SearchState, StateFolder
from stentor.tokenizer.tokenmonster.training.text import PreparedText

Measure = Callable[[VocabArrays, PreparedText, ThreadPoolExecutor, int], Usage]
_MIN_SWAP, _SWAP_DECAY, _LEAST_YIELD = 20, 0.7, 0.001


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search.

    Attributes:
        pool_factor: candidates to begin with, for each token wanted.
        share_far: of the tokens, dropped in a round while there are more than twice the wanted number.
        share_near: the same from there on.
        num_swaps: rounds of swapping.
        swap_share: of the wanted number, tried in the first round of swapping.
        sample_bytes: about how much of the text is tokenised in each round.
    """

    pool_factor: int
    share_far: float
    share_near: float
    num_swaps: int
    swap_share: float
    sample_bytes: int


FAST = Effort(pool_factor=8, share_far=0.15, share_near=0.05, num_swaps=10, swap_share=0.5, sample_bytes=1 << 27)
THOROUGH = Effort(pool_factor=16, share_far=0.08, share_near=0.02, num_swaps=60, swap_share=0.5, sample_bytes=1 << 32)


class Search:
    """A search in progress.

    Args:
        pool: everything that may be chosen.
        text: to tokenise.
        vocab_size: tokens wanted.
        effort: how hard to search.
        seed: of the random choices.
        num_workers: threads.
        measure: how uses are counted: as the encoder walks, without another one.
    """

    def __init__(
        self,
        pool: Pool,
        text: PreparedText,
        *,
        vocab_size: int,
        effort: Effort,
        seed: int,
        num_workers: int,
        measure: Measure = measure_usage,
    ) -> None:
        self._pool, self._text, self._vocab_size = pool, text, vocab_size
        self._measure_usage = measure
        self._effort, self._seed = effort, seed
        self._every = max(1, text.data.size // effort.sample_bytes)
        self._threads = ThreadPoolExecutor(num_workers)
        count = len(pool.tokens)
        self.state = SearchState(
            step=0,
            num_swaps=0,
            is_chosen=np.ones(count, np.bool_),
            yields=np.ones(count),
            num_tokens=0,
            swap_size=max(_MIN_SWAP, round(vocab_size * effort.swap_share)),
        )

    def run(self, folder: StateFolder | None, on_round: Callable[[SearchState], None]) -> NDArray[np.bool_]:
        """Search to the end and return which tokens are chosen.

        Args:
            folder: where the state is kept after each round, and taken from if there is one.
            on_round: called after each round.
        """
        if folder and (kept := folder.load_search(len(self._pool.tokens))):
            self.state = kept
        with self._threads:
            while not self._is_done():
                if self.state.num_tokens:
                    self._swap()
                else:
                    self._prune()
                self.state.step += 1
                if folder:
                    folder.save_search(self.state)
                on_round(self.state)
        return self.state.is_chosen

    def _is_done(self) -> bool:
        return self.state.num_tokens > 0 and self.state.num_swaps >= self._effort.num_swaps

    def _prune(self) -> None:
        state, wanted = self.state, self._vocab_size
        num_tokens, costs = self._measure(state.is_chosen)
        num_chosen = int(state.is_chosen.sum())
        if num_chosen == wanted:
            state.num_tokens = num_tokens
            return
        share = self._effort.share_far if num_chosen > 2 * wanted else self._effort.share_near
        remaining = max(wanted, min(num_chosen - 1, round(num_chosen * (1 - share))))
        state.is_chosen = self._without_cheapest(state.is_chosen, costs, remaining)

    def _swap(self) -> None:
        state, wanted = self.state, self._vocab_size
        state.num_swaps += 1
        outside = np.flatnonzero(~state.is_chosen)
        promises = self._promises(outside)
        luck = np.random.default_rng([self._seed, state.num_swaps]).random(outside.size)
        tried = np.argsort(-promises * state.yields[outside] * luck, kind="stable")[: state.swap_size]
        if not tried.size:
            return
        added = outside[tried]
        trial = state.is_chosen.copy()
        trial[added] = True
        num_tokens, costs = self._measure(trial)
        state.yields[added] = np.clip(costs[added] / np.maximum(1, promises[tried]), _LEAST_YIELD, 1)
        for surplus in (added.size // 4, added.size // 16, 0):
            trial = self._without_cheapest(trial, costs, wanted + surplus)
            num_tokens, costs = self._measure(trial)
        if num_tokens < state.num_tokens:
            state.is_chosen, state.num_tokens = trial, num_tokens
        else:
            state.swap_size = max(_MIN_SWAP, int(state.swap_size * _SWAP_DECAY))

    def _promises(self, outside: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens each candidate outside would save if it were used wherever it occurs."""
        arrays = self._pool.arrays(self.state.is_chosen)
        assert arrays is not None, "the pool fits the encoder's tables"
        return self._pool.counts[outside] * (fewest_tokens_for(arrays, *self._pool.bytes_of(outside)) - 1)

    def _measure(self, is_chosen: NDArray[np.bool_]) -> tuple[int, NDArray[np.int64]]:
        """Return how many tokens the text has, and for each token of the pool how many more without it."""
        arrays = self._pool.arrays(is_chosen)
        assert arrays is not None, "the pool fits the encoder's tables"
        usage = self._measure_usage(arrays, self._text, self._threads, self._every)
        token_of = self._pool.token_of[self._pool.chosen_records(is_chosen)]
        costs = np.zeros(is_chosen.size, np.int64)
        np.add.at(costs, token_of, removal_costs(arrays, usage.uses, token_of))
        return usage.num_tokens, costs

    def _without_cheapest(
        self, is_chosen: NDArray[np.bool_], costs: NDArray[np.int64], remaining: int
    ) -> NDArray[np.bool_]:
        """Return a choice of so many tokens; of equals the first in the table go first."""
        droppable = np.flatnonzero(is_chosen & ~self._pool.is_fixed)
        dropped = droppable[np.argsort(costs[droppable], kind="stable")[: int(is_chosen.sum()) - remaining]]
        kept = is_chosen.copy()
        kept[dropped] = False
        return kept
