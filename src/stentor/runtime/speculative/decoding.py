"""Rounds of speculative decoding: a draft proposes some tokens, one pass of the target judges them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stentor.runtime.network import CachedNetwork
from stentor.runtime.sampling import SamplingState, distribution, draw
from stentor.runtime.speculative.length import DraftLength
from stentor.runtime.speculative.verification import Proposal, verified

Logits = NDArray[np.floating]


class Draft(Protocol):
    """Whatever guesses how a text goes on."""

    def propose(
        self, token_ids: Sequence[int], state: SamplingState, num_steps: int, generator: np.random.Generator
    ) -> Proposal:
        """Propose the next tokens.

        Args:
            token_ids: prompt and output so far, in the target's ids; those of the last call and more.
            state: the target's, with that output; left as it is found.
            num_steps: of the draft, at least one.
            generator: for what is drawn; what is chosen without a distribution must not use it.
        """
        ...


@dataclass(slots=True)
class DraftStats:
    """How a draft did.

    Attributes:
        method: how it proposes: `tokens`, `intersection`, `text` or `lookup`.
        reason: why so.
        num_passes: of the target, the prompt's not counted.
        num_draft_steps: of the draft.
        num_proposed: tokens that the target saw.
        num_kept: of them.
        num_rejected: tokens at which the draft was wrong; those behind are not judged.
    """

    method: str
    reason: str = ""
    num_passes: int = 0
    num_draft_steps: int = 0
    num_proposed: int = 0
    num_kept: int = 0
    num_rejected: int = 0

    @property
    def acceptance_rate(self) -> float:
        """Tokens kept of those judged; 0 where none was."""
        return self.num_kept / max(1, self.num_kept + self.num_rejected)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that a pass of the target brings, its own one among them."""
        return (self.num_kept + self.num_passes) / max(1, self.num_passes)

    @property
    def mean_length(self) -> float:
        """Tokens proposed to a pass."""
        return self.num_proposed / max(1, self.num_passes)


class Speculation:
    """A target and a draft that continue one prompt.

    Args:
        target: decides.
        draft: proposes.
        prepare: given logits [K, V] of the target, returns those to draw from; refuses what are no numbers.
        length: says how many tokens to propose.
        stats: filled in meanwhile.
    """

    def __init__(
        self,
        target: CachedNetwork,
        draft: Draft,
        *,
        prepare: Callable[[Logits], Logits],
        length: DraftLength,
        stats: DraftStats,
    ) -> None:
        self._target, self._draft, self._prepare, self._length, self._stats = target, draft, prepare, length, stats

    def tokens(
        self, prompt_ids: Sequence[int], state: SamplingState, generator: np.random.Generator, *, max_new_tokens: int
    ) -> Iterator[tuple[int, Logits]]:
        """Yield tokens, each with the target's logits [V], as they would come without a draft.

        It ends at the count asked for or at the end of the context. An EOS, or what else ends a text, is for the
        caller to see.

        Args:
            prompt_ids: at least one; they fit the target's context.
            state: the settings and no output yet; the caller pushes each token before asking for the next.
            generator: of the draws.
            max_new_tokens: at most this many.
        """
        self._length.begin_text()
        token_ids, context_length = list(prompt_ids), self._target.config.max_position_embeddings
        if len(token_ids) > 1:
            self._target.extend(token_ids[:-1], 0)  # by itself, for the logits of a prompt are not wanted
        while (num_left := min(max_new_tokens - len(state.output_ids), context_length - len(token_ids) + 1)) > 0:
            proposal, logits_KV = self._propose(token_ids, state, generator, num_left - 1)
            for token_id, logits_V in self._judge(proposal, logits_KV, state, generator):
                token_ids.append(token_id)
                yield token_id, logits_V

    def _propose(
        self, token_ids: list[int], state: SamplingState, generator: np.random.Generator, limit: int
    ) -> tuple[Proposal, Logits]:
        """Let the draft propose at most `limit` tokens, and the target read them."""
        started, proposal = time.perf_counter(), Proposal([])
        if num_steps := min(self._length.choose(), limit):
            proposal = self._draft.propose(token_ids, state, num_steps, generator).shortened(limit)
        drafted, num_proposed = time.perf_counter(), len(proposal.token_ids)
        logits_KV = self._target.extend([token_ids[-1], *proposal.token_ids], len(token_ids) - 1, all_scored=True)
        self._length.learn_times(
            num_steps=proposal.num_steps,
            draft_seconds=drafted - started,
            num_proposed=num_proposed,
            pass_seconds=time.perf_counter() - drafted,
        )
        self._stats.num_passes += 1
        self._stats.num_draft_steps += proposal.num_steps
        self._stats.num_proposed += num_proposed
        return proposal, self._prepare(logits_KV)

    def _judge(
        self, proposal: Proposal, logits_KV: Logits, state: SamplingState, generator: np.random.Generator
    ) -> Iterator[tuple[int, Logits]]:
        """Yield the tokens that are kept, and the target's own one behind them."""
        for place, logits_V in enumerate(logits_KV):
            target_V = distribution(logits_V, state)
            if place == len(proposal.token_ids):
                token_id, is_kept = draw(target_V, generator), False
            else:
                token_id = verified(target_V, *proposal.at(place), generator)
                is_kept = token_id == proposal.token_ids[place]
                self._length.learn_token(is_kept=is_kept)
                self._stats.num_kept += is_kept
                self._stats.num_rejected += not is_kept
            yield token_id, logits_V
            if not is_kept:
                return
