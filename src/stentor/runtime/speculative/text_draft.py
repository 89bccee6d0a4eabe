"""A draft that writes in its own vocabulary; what it wrote is proposed in the target's tokens.

The draft takes its likeliest token every time, under its own settings. Its text has no distribution over the target's
tokens that could be computed, for many tokens of the draft make one text; so the tokens count as chosen, and the text
that comes out is the very same as without a draft, for every seed.

Reference: Timor et al. 2025, arXiv 2502.05202, algorithm 2 (string-level exact match).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stentor.errors import UserError
from stentor.runtime.network import CachedNetwork
from stentor.runtime.sampling import Sampling, SamplingState, distribution
from stentor.runtime.speculative.reader import Reader, shared_length
from stentor.runtime.speculative.verification import Proposal
from stentor.runtime.speculative.vocabularies import OtherVocabulary, unfinished
from stentor.tokenizer import Tokenizer

DECODED_BEFORE = 16
"""Tokens before the new text that are decoded with it: they decide whether a capital or a space begins it."""


class TextDraft:
    """Writes on in the draft's vocabulary.

    Args:
        network: of the draft.
        tokenizer: of the draft.
        target_tokenizer: of the target.
        sampling: settings; biases, which are for the target's ids, are left out.
    """

    def __init__(
        self, network: CachedNetwork, tokenizer: Tokenizer, target_tokenizer: Tokenizer, *, sampling: Sampling
    ) -> None:
        self._reader = Reader(network, tokenizer.vocab_size)
        self._tokenizer, self._target_tokenizer = tokenizer, target_tokenizer
        self._sampling = replace(sampling, temperature=0, logit_bias={})
        self._other = OtherVocabulary(target_tokenizer, tokenizer)
        self._state: SamplingState | None = None
        self._is_over = False  # a text only grows: once it fills the draft's context, nothing more is read of it

    def propose(
        self, token_ids: Sequence[int], state: SamplingState, num_steps: int, generator: np.random.Generator
    ) -> Proposal:
        """Return the target's tokens of the text that `num_steps` of the draft's tokens make."""
        if self._is_over:
            return Proposal([])
        own_state = self._follow(token_ids, len(token_ids) - len(state.output_ids))
        context_ids = self._other.prompt_ids + own_state.output_ids
        new_ids: list[int] = []
        num_steps = min(num_steps, self._reader.num_more(len(context_ids)))
        self._is_over = num_steps == 0
        while len(new_ids) < num_steps:
            logits_V = (
                self._reader.logits_after_one_more(new_ids[-1]) if new_ids else self._reader.logits_after(context_ids)
            )
            try:
                new_ids.append(int(distribution(logits_V, own_state).argmax()))
            except UserError:  # min_new_tokens or ignore_eos forbid the one token there is
                break
            if new_ids[-1] == self._tokenizer.eos_token_id:
                break
            own_state.push(new_ids[-1])
        return Proposal(self._target_ids(context_ids, new_ids), num_steps=len(new_ids))

    def _follow(self, token_ids: Sequence[int], num_prompt_tokens: int) -> SamplingState:
        """Bring the draft's own history of tokens to the text as it is now."""
        output_ids = self._other.follow(token_ids, num_prompt_tokens)
        if self._state is None:
            self._state = SamplingState(
                self._sampling,
                self._other.prompt_ids,
                vocab_size=self._tokenizer.vocab_size,
                eos_token_id=self._tokenizer.eos_token_id,
            )
        num_shared = shared_length(self._state.output_ids, output_ids)
        while len(self._state.output_ids) > num_shared:
            self._state.pop()
        for token_id in output_ids[num_shared:]:
            self._state.push(token_id)
        return self._state

    def _target_ids(self, context_ids: Sequence[int], new_ids: Sequence[int]) -> list[int]:
        """Encode the new text for the target, without a character that is not whole yet; EOS stays EOS."""
        ends = bool(new_ids) and new_ids[-1] == self._tokenizer.eos_token_id
        decoder = self._tokenizer.streaming_decoder()
        decoder.push(context_ids[-DECODED_BEFORE:])
        text = decoder.push(new_ids[:-1] if ends else new_ids)
        if ends:
            return [*self._target_tokenizer.encode(text + decoder.finish()), self._target_tokenizer.eos_token_id]
        return self._target_tokenizer.encode(text[: len(text) - len(unfinished(text))])
