"""A continuation while it is made: logits in, a token drawn, whole characters out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.runtime.completion import TokenRecord
from stentor.runtime.sampling import Sampling, SamplingState, sample
from stentor.runtime.speculative.decoding import DraftStats
from stentor.runtime.stopping import StopStrings
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.stream import StreamDecoder


@dataclass(slots=True)
class GenerationStats:
    """What a generation cost; complete once its text is exhausted.

    Attributes:
        prefill_seconds: until its first token was drawn.
        decode_seconds: from then on; continuations that are made together take this time together.
        finish_reason: `eos`, `stop`, `max_new_tokens` or `context`.
        draft: how the draft did, where there was one.
    """

    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    finish_reason: str = ""
    draft: DraftStats | None = None

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the whole time, the prompt's included."""
        seconds = self.prefill_seconds + self.decode_seconds
        return self.num_new_tokens / seconds if seconds else 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be continued, and how; refuses what cannot be done.

    Attributes:
        prompt_ids: the text so far, at least one token.
        max_new_tokens: at most this many.
        stop: the output ends before the first of these strings.
        settings: of each draw.

    Raises:
        UserError: the prompt is longer than the context, or a setting is out of its range.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    prompt_ids: Sequence[int]
    max_new_tokens: int
    stop: Sequence[str]
    settings: Sampling

    def __post_init__(self) -> None:
        context_length = self.config.max_position_embeddings
        if len(self.prompt_ids) > context_length:
            raise UserError(
                f"the prompt has {len(self.prompt_ids)} tokens, the model's context holds {context_length}",
                fix="shorten the prompt",
            )
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}", fix="ask for at least one token")
        if self.settings.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"min_new_tokens is {self.settings.min_new_tokens}, more than max_new_tokens, which is "
                f"{self.max_new_tokens}",
                fix="raise max_new_tokens",
            )
        for token_id in self.settings.logit_bias:
            self.tokenizer.require_known(token_id)


class Continuation:
    """One continuation of a request.

    Whoever drives it gives `draw` the logits after the last token, and `push` the token that it chose, until `is_done`.

    Args:
        request: what is continued.
        generator: its random numbers.
        stats: filled in on the way.
        record: notes the tokens down.

    Attributes:
        state: what the next token depends on besides the logits.
        is_done: whether it has ended; `stats` says why.
    """

    def __init__(
        self, request: Request, generator: np.random.Generator, *, stats: GenerationStats, record: TokenRecord
    ) -> None:
        tokenizer = request.tokenizer
        self.stats, self.generator, self.is_done = stats, generator, False
        self.state = SamplingState(
            request.settings,
            request.prompt_ids,
            vocab_size=request.config.vocab_size,
            eos_token_id=tokenizer.eos_token_id,
        )
        self._request, self._record = request, record
        self._decoder = StreamDecoder(tokenizer, after=request.prompt_ids)
        self._stops = StopStrings(request.stop)
        self._started = 0.0
        stats.num_prompt_tokens = len(request.prompt_ids)

    @property
    def position(self) -> int:
        """Where the last token stands in the text, the prompt counted."""
        return len(self._request.prompt_ids) + self.stats.num_new_tokens - 1

    def begin(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def draw(self, logits_V: NDArray[np.floating]) -> int:
        """Choose the next token by the logits [V] after the last one."""
        return sample(logits_V, self.state, self.generator)

    def push(self, token_id: int, logits_V: NDArray[np.floating]) -> str:
        """Add a token, drawn from these logits [V]; returns the text that is certain by now."""
        stats = self.stats
        self._record.add(token_id, logits_V)
        self._count()
        if token_id == self._request.tokenizer.eos_token_id:
            return self._end("eos")
        self.state.push(token_id)
        shown = self._stops.push(self._decoder.push(token_id))
        if self._stops.reached:
            return shown + self._end("stop")
        if stats.num_new_tokens == self._request.max_new_tokens:
            return shown + self._end("max_new_tokens")
        if self.position == self._request.config.max_position_embeddings:
            return shown + self._end("context")
        return shown

    def _count(self) -> None:
        now = time.perf_counter()
        if self.stats.num_new_tokens == 0:
            self.stats.prefill_seconds, self._started = now - self._started, now
        self.stats.decode_seconds = now - self._started
        self.stats.num_new_tokens += 1

    def _end(self, reason: str) -> str:
        """Note why it ended; returns the text that was held back until now."""
        self.is_done, self.stats.finish_reason = True, reason
        if self._stops.reached:
            return ""
        shown = self._stops.push(self._decoder.finish())
        if self._stops.reached:  # by a broken character, which becomes text only now
            return shown
        return shown + self._stops.finish()
