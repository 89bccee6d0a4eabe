"""A loaded model that writes and scores text: the object `stentor.load` returns.

The network runs on torch with a key/value cache; sampling, stop strings and streaming do not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stentor.errors import UserError
from stentor.model.device import pick_device
from stentor.model.folder import read_model_folder
from stentor.model.llama import KeyValueCache, Llama
from stentor.model.measure import stream_nats
from stentor.runtime.completion import Completion, TokenRecord
from stentor.runtime.sampling import Sampling, SamplingState, generator_of, sample
from stentor.runtime.stopping import StopStrings
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.stream import StreamDecoder


@dataclass(frozen=True, slots=True)
class Scores:
    """The tokens of a text and ln p of each given those before it; the first follows an EOS."""

    token_ids: list[int]
    log_probs: list[float]


@dataclass(slots=True)
class GenerationStats:
    """What a generation cost; complete once its text is exhausted.

    Attributes:
        finish_reason: `eos`, `stop`, `max_new_tokens` or `context`.
    """

    num_prompt_tokens: int = 0
    num_new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    finish_reason: str = ""

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the whole time, the prompt's included."""
        seconds = self.prefill_seconds + self.decode_seconds
        return self.num_new_tokens / seconds if seconds else 0.0


def load(path_or_id: str | Path) -> LanguageModel:
    """Read a model folder, a run folder's best checkpoint, a .gguf file or a Hub id, ready to write and score text.

    Raises:
        UserError: it is not a whole model with its tokenizer.
    """
    folder = read_model_folder(path_or_id)
    return LanguageModel(folder.build(pick_device()), folder.require_tokenizer())


class LanguageModel:
    """A network and its tokenizer."""

    def __init__(self, model: Llama, tokenizer: Tokenizer) -> None:
        self._model = model
        self.tokenizer = tokenizer

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        **sampling: Any,
    ) -> str:
        """Return the continuation of a prompt.

        Args:
            prompt: text to continue; an empty one starts a new document.
            max_new_tokens: at most this many.
            stop: the output ends before the first of these strings.
            seed: of the draw; the same one gives the same text.
            **sampling: fields of `Sampling`, whose defaults are the reference's.

        Raises:
            UserError: the prompt is longer than the context, or a setting is out of its range.
        """
        return "".join(self.stream(prompt, max_new_tokens=max_new_tokens, stop=stop, seed=seed, **sampling))

    def complete(
        self,
        prompt: str,
        *,
        n: int = 1,
        logprobs: int | None = None,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        **sampling: Any,
    ) -> list[Completion]:
        """Return continuations of a prompt, with their tokens and why they ended.

        Args:
            prompt: as in `generate`, like those that follow `logprobs`.
            n: number of continuations, each with random numbers of its own; the first is that of `generate`.
            logprobs: how many alternatives to return for each token, with log-probabilities under the model's own
                distribution; 0 returns the chosen token's alone, None returns none.
            max_new_tokens: at most this many in each.
            stop: each ends before the first of these strings.
            seed: of all draws.
            **sampling: fields of `Sampling`.

        Raises:
            UserError: as in `generate`.
        """
        if n < 1:
            raise UserError(f"n is {n}", fix="ask for at least one continuation")
        settings, completions = Sampling(**sampling), []
        for index in range(n):
            stats, record = GenerationStats(), TokenRecord(logprobs)
            pieces = self._start(prompt, max_new_tokens, stop, generator_of(seed, index), stats, settings, record)
            completions.append(record.completion("".join(pieces), stats))
        return completions

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        stats: GenerationStats | None = None,
        **sampling: Any,
    ) -> Iterator[str]:
        """Yield the continuation as it is made, whole characters only.

        Args:
            prompt: as in `generate`, like all that follow but the last.
            max_new_tokens: at most this many.
            stop: the output ends before the first of these strings.
            seed: of the draw.
            stats: filled in while the text is made.
            **sampling: fields of `Sampling`.
        """
        stats, settings = stats or GenerationStats(), Sampling(**sampling)
        return self._start(prompt, max_new_tokens, stop, generator_of(seed), stats, settings, TokenRecord())

    def score(self, text: str | bytes) -> Scores:
        """Return the log-probability, in nats, of every token of a text of any length."""
        token_ids = self.tokenizer.encode(text)
        nats = stream_nats(self._model, np.array(token_ids, dtype=np.int64), eos_token_id=self.tokenizer.eos_token_id)
        return Scores(token_ids, [-float(value) for piece in nats for value in piece])

    def _start(
        self,
        prompt: str,
        max_new_tokens: int,
        stop: Sequence[str],
        generator: np.random.Generator,
        stats: GenerationStats,
        settings: Sampling,
        record: TokenRecord,
    ) -> Iterator[str]:
        """Refuse what cannot be done, before the first piece is asked for."""
        prompt_ids = self.tokenizer.encode(prompt) or [self.tokenizer.eos_token_id]
        self._refuse_long_prompt(prompt_ids)
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {max_new_tokens}", fix="ask for at least one token")
        if settings.min_new_tokens > max_new_tokens:
            raise UserError(
                f"min_new_tokens is {settings.min_new_tokens}, more than max_new_tokens, which is {max_new_tokens}",
                fix="raise max_new_tokens",
            )
        for token_id in settings.logit_bias:
            self.tokenizer.require_known(token_id)
        new_ids = self._new_ids(prompt_ids, max_new_tokens, settings, generator, stats, record)
        return self._text(new_ids, StreamDecoder(self.tokenizer, after=prompt_ids), StopStrings(stop), stats)

    def _refuse_long_prompt(self, prompt_ids: list[int]) -> None:
        context_length = self._model.config.max_position_embeddings
        if len(prompt_ids) > context_length:
            raise UserError(
                f"the prompt has {len(prompt_ids)} tokens, the model's context holds {context_length}",
                fix="shorten the prompt",
            )

    def _text(
        self, new_ids: Iterator[int], decoder: StreamDecoder, stops: StopStrings, stats: GenerationStats
    ) -> Iterator[str]:
        for token_id in new_ids:
            if shown := stops.push(decoder.push(token_id)):
                yield shown
            if stops.reached:
                stats.finish_reason = "stop"
                return
        if shown := stops.push(decoder.finish()):
            yield shown
        if shown := stops.finish():
            yield shown

    def _new_ids(
        self,
        prompt_ids: list[int],
        max_new_tokens: int,
        settings: Sampling,
        generator: np.random.Generator,
        stats: GenerationStats,
        record: TokenRecord,
    ) -> Iterator[int]:
        """Yield token ids until EOS, the count asked for, or the end of the context."""
        state = SamplingState(
            settings,
            prompt_ids,
            vocab_size=self._model.config.vocab_size,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        context_length = self._model.config.max_position_embeddings
        stats.num_prompt_tokens, next_ids = len(prompt_ids), prompt_ids
        cache = KeyValueCache(
            self._model.config, 1, dtype=self._model.embedding_VD.dtype, device=self._model.embedding_VD.device
        )
        started = time.perf_counter()
        while stats.num_new_tokens < max_new_tokens:
            if cache.length + len(next_ids) > context_length:
                stats.finish_reason = "context"
                return
            logits_V = self._next_logits(next_ids, cache)
            token_id = sample(logits_V, state, generator)
            record.add(token_id, logits_V)
            now = time.perf_counter()
            if stats.num_new_tokens == 0:
                stats.prefill_seconds, started = now - started, now
            stats.decode_seconds = now - started
            stats.num_new_tokens += 1
            if token_id == self.tokenizer.eos_token_id:
                stats.finish_reason = "eos"
                return
            yield token_id
            state.push(token_id)
            next_ids = [token_id]
        stats.finish_reason = "max_new_tokens"

    def _next_logits(self, token_ids: list[int], cache: KeyValueCache) -> np.ndarray:
        """Return the logits [V] after these tokens; the embedding's padding rows stand for no token."""
        with torch.inference_mode():
            input_ids_BT = torch.tensor([token_ids], device=self._model.embedding_VD.device)
            x_BTD = self._model.hidden(input_ids_BT, cache=cache)
            logits_V = self._model.logits(x_BTD[:, -1]).squeeze(0).float().cpu().numpy()
        if not logits_V.max() < np.inf:  # NaN is not, either
            raise UserError(
                "the model's predictions are not numbers: its weights have left their range",
                fix="use an earlier checkpoint, or train again with a lower train.lr",
            )
        logits_V[self.tokenizer.vocab_size :] = -np.inf
        return logits_V
