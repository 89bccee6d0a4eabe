"""A draft that proposes tokens of the target's own vocabulary, each with the distribution it was drawn from.

Its network may have another vocabulary. Then its distribution is that of the tokens which both vocabularies have,
made to sum to 1, in the target's ids; all else is as with the same vocabulary. What the target adds is read in the
draft's ids of the text.

Reference: Leviathan et al. 2023, arXiv 2211.17192, algorithm 1; for different vocabularies Timor et al. 2025,
"Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for Heterogeneous Vocabularies",
arXiv 2502.05202, algorithm 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stentor.errors import UserError
from stentor.runtime.network import CachedNetwork
from stentor.runtime.sampling import Probs, SamplingState, distribution, draw
from stentor.runtime.speculative.reader import Reader
from stentor.runtime.speculative.verification import Proposal
from stentor.runtime.speculative.vocabularies import OtherVocabulary, shared_tokens
from stentor.tokenizer import Tokenizer


class TokenDraft:
    """Draws tokens from what a network says of those that both vocabularies have.

    The settings, and the penalties with their history, are the target's and in its ids: the better a draft imitates the
    target's distribution, the more of its tokens are kept.

    Args:
        network: of the draft.
        tokenizer: of the draft.
        target_tokenizer: of the target.
        vocab_size: number of the target's logits.
    """

    def __init__(
        self, network: CachedNetwork, tokenizer: Tokenizer, target_tokenizer: Tokenizer, *, vocab_size: int
    ) -> None:
        self._reader = Reader(network, tokenizer.vocab_size)
        self._shared = shared_tokens(target_tokenizer, tokenizer)
        self._draft_ids = self._shared.draft_id_of()
        self._other = None if self._draft_ids is None else OtherVocabulary(target_tokenizer, tokenizer)
        self._eos_token_id, self._vocab_size = target_tokenizer.eos_token_id, vocab_size
        self._is_over = False  # a text only grows: once it fills the draft's context, nothing more is read of it

    def propose(
        self, token_ids: Sequence[int], state: SamplingState, num_steps: int, generator: np.random.Generator
    ) -> Proposal:
        """Return at most `num_steps` tokens; fewer at the end of the draft's context, and none behind an EOS."""
        if self._is_over:
            return Proposal([])
        context_ids = self._context_ids(token_ids, len(token_ids) - len(state.output_ids))
        num_steps = min(num_steps, self._reader.num_more(len(context_ids)))
        self._is_over = num_steps == 0
        num_output = len(state.output_ids)
        drawn: list[int] = []
        probs: list[Probs] = []
        while len(drawn) < num_steps:
            logits_V = (
                self._reader.logits_after_one_more(self._draft_id(drawn[-1]))
                if drawn
                else self._reader.logits_after(context_ids)
            )
            try:
                probs_V = distribution(self._shared.to_target(logits_V, self._vocab_size), state)
            except UserError:  # of the tokens that both have, none may come here
                break
            drawn.append(draw(probs_V, generator))
            probs.append(probs_V)
            if drawn[-1] == self._eos_token_id:
                break
            state.push(drawn[-1])
        while len(state.output_ids) > num_output:
            state.pop()
        return Proposal(drawn, probs, num_steps=len(drawn))

    def _context_ids(self, token_ids: Sequence[int], num_prompt_tokens: int) -> Sequence[int]:
        if self._other is None:
            return token_ids
        output_ids = self._other.follow(token_ids, num_prompt_tokens)
        return self._other.prompt_ids + output_ids

    def _draft_id(self, token_id: int) -> int:
        return token_id if self._draft_ids is None else self._draft_ids[token_id]
