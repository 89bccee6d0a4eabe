"""A loaded model that writes and scores text: the object `stentor.load` returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.measure import stream_nats
from stentor.runtime.completion import Completion, TokenRecord
from stentor.runtime.continuation import Continuation, GenerationStats, Request
from stentor.runtime.network import NO_NUMBERS, CachedNetwork, DrawingNetwork
from stentor.runtime.open import open_network
from stentor.runtime.sampling import Sampling, generator_of, none_left
from stentor.runtime.speculative.decoding import DraftStats, Speculation
from stentor.runtime.speculative.drafting import Drafting
from stentor.tokenizer import Tokenizer

MADE_TOGETHER = 16
"""Continuations of one prompt that share each pass; more would ask for much memory."""
DRAWN_TOGETHER = 64
"""The same where the network draws their tokens: a GPU takes hardly longer for so many."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The tokens of a text and ln p of each given those before it; the first follows an EOS."""

    token_ids: list[int]
    log_probs: list[float]


def load(
    path_or_id: str | Path,
    *,
    dtype: str | None = None,
    cache_dtype: str = "float32",
    num_threads: int | None = None,
    device: str = "cpu",
) -> LanguageModel:
    """Read a model folder, a run folder's best checkpoint, a .gguf file or a Hub id, ready to write and score text.

    Args:
        path_or_id: which model. An ONNX export computes in onnxruntime, in its own dtype. `transformers:` before a
            folder or a Hub id opens any causal language model through transformers, with weights in the dtype of its
            file.
        dtype: of the weights on a CPU, one of `dtypes.DTYPES`; int8 rounds each row of a matrix to 255 steps. Of all
            that a GPU computes, one of `dtypes.GPU_DTYPES`. None is int8 on a CPU, and on a GPU bfloat16, or what it
            has instead. With an ONNX export it is None.
        cache_dtype: of keys and values on a CPU, one of `dtypes.CACHE_DTYPES`.
        num_threads: of a pass there; None takes as many as are fastest, which some passes find out (in onnxruntime:
            all cores that the process may use).
        device: `cpu`; `cuda` or `mps`, which compute in torch; `auto` is one of these where there is one that computes
            in `dtype`.

    Raises:
        UserError: it is not a whole model with its tokenizer, or a setting has no such value.
        MissingDependencyError: there is no such device, or none for this type.
    """
    opened = open_network(path_or_id, dtype=dtype, cache_dtype=cache_dtype, num_threads=num_threads, device=device)
    return LanguageModel(opened.network, opened.tokenizer, origin=opened.origin)


class LanguageModel:
    """A network and its tokenizer.

    Args:
        network: remembers nothing here; each text is made by a `fresh` one.
        tokenizer: the one that it was trained with.
        origin: the folder or file that they were read from.
    """

    def __init__(self, network: CachedNetwork, tokenizer: Tokenizer, *, origin: Path | None = None) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.origin = origin

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        draft: Drafting | LanguageModel | str | None = None,
        **sampling: Any,
    ) -> str:
        """Return the continuation of a prompt.

        Args:
            prompt: text to continue, or its token ids; an empty one starts a new document.
            max_new_tokens: at most this many.
            stop: the output ends before the first of these strings.
            seed: of the draw; the same one gives the same text.
            draft: makes it faster without changing what comes out: a smaller model, or `lookup`, or one of these with
                settings as a `Drafting`. At temperature 0 the text is the same; else its distribution is, and
                `Drafting` says when the same seed gives the same text.
            **sampling: fields of `Sampling`, whose defaults are the reference's.

        Raises:
            UserError: the prompt is longer than the context, or a setting is out of its range.
        """
        options = {"max_new_tokens": max_new_tokens, "stop": stop, "seed": seed, "draft": draft}
        return "".join(self.stream(prompt, **options, **sampling))

    def complete(
        self,
        prompt: str,
        *,
        n: int = 1,
        logprobs: int | None = None,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        draft: Drafting | LanguageModel | str | None = None,
        **sampling: Any,
    ) -> list[Completion]:
        """Return continuations of a prompt, with their tokens and why they ended.

        The prompt is read once, and they are made side by side; each is what it would be alone.

        Args:
            prompt: as in `generate`, like all that follow but n and logprobs.
            n: how many continuations; each has random numbers of its own, which do not depend on how many there are.
            logprobs: note the log-probability of each token, and so many of the likeliest beside it.
            max_new_tokens: at most this many.
            stop: the output ends before the first of these strings.
            seed: of the draw.
            draft: as in `generate`; they are then made one after the other.
            **sampling: fields of `Sampling`.

        Raises:
            UserError: as in `generate`.
        """
        if n < 1:
            raise UserError(f"n is {n}", fix="ask for at least one continuation")
        request = self._request(prompt, max_new_tokens, stop, Sampling(**sampling))
        records = [TokenRecord(logprobs) for _ in range(n)]
        made = [
            Continuation(request, generator_of(seed, index), stats=GenerationStats(), record=record)
            for index, record in enumerate(records)
        ]
        texts: list[str] = []
        if drafting := _drafting(draft):
            texts = ["".join(self._drafted_steps(request, continuation, drafting)) for continuation in made]
        together = DRAWN_TOGETHER if self._draws(logprobs) else MADE_TOGETHER
        for first in range(len(texts), n, together):
            steps = self._made(request, made[first : first + together], logprobs=logprobs)
            texts += ["".join(pieces) for pieces in zip(*steps, strict=True)]
        return [
            record.completion(text, continuation.stats)
            for record, text, continuation in zip(records, texts, made, strict=True)
        ]

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int = 50,
        stop: Sequence[str] = (),
        seed: int = 0,
        stats: GenerationStats | None = None,
        draft: Drafting | LanguageModel | str | None = None,
        **sampling: Any,
    ) -> Iterator[str]:
        """Yield the continuation as it is made, whole characters only.

        Args:
            prompt: as in `generate`, like all that follow but stats.
            max_new_tokens: at most this many.
            stop: the output ends before the first of these strings.
            seed: of the draw.
            stats: filled in while the text is made.
            draft: makes it faster.
            **sampling: fields of `Sampling`.
        """
        request = self._request(prompt, max_new_tokens, stop, Sampling(**sampling))
        stats = GenerationStats() if stats is None else stats
        made = Continuation(request, generator_of(seed), stats=stats, record=TokenRecord())
        if drafting := _drafting(draft):
            return filter(None, self._drafted_steps(request, made, drafting))
        return (piece for (piece,) in self._made(request, [made]) if piece)

    def score(self, text: str | bytes) -> Scores:
        """Return the log-probability, in nats, of every token of a text of any length."""
        token_ids = self.tokenizer.encode(text)
        nats = stream_nats(self.network, np.array(token_ids, dtype=np.int64), eos_token_id=self.tokenizer.eos_token_id)
        return Scores(token_ids, [-float(value) for piece in nats for value in piece])

    def _request(
        self, prompt: str | Sequence[int], max_new_tokens: int, stop: Sequence[str], settings: Sampling
    ) -> Request:
        prompt_ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        prompt_ids = prompt_ids or [self.tokenizer.eos_token_id]
        return Request(self.network.config, self.tokenizer, prompt_ids, max_new_tokens, stop, settings)

    def _made(
        self, request: Request, made: Sequence[Continuation], *, logprobs: int | None = None
    ) -> Iterator[list[str]]:
        """Yield what is certain of each text, step by step, until all have ended."""
        network = self.network.fresh(len(made))
        if self._draws(logprobs) and isinstance(network, DrawingNetwork):
            return self._drawn_steps(network, request, made)
        return self._steps(network, request, made)

    def _draws(self, logprobs: int | None) -> bool:
        """Whether the network draws the tokens: log-probabilities need its logits."""
        return logprobs is None and isinstance(self.network, DrawingNetwork)

    def _drawn_steps(
        self, network: DrawingNetwork, request: Request, made: Sequence[Continuation]
    ) -> Iterator[list[str]]:
        """As `_made`: the network draws, and nobody sees its logits."""
        for continuation in made:
            continuation.begin()
        unseen_V = np.empty(0)
        for ids in network.drawn(request, [continuation.generator for continuation in made]):
            pieces = [""] * len(made)
            for index, (continuation, token_id) in enumerate(zip(made, ids, strict=True)):
                if continuation.is_done:
                    continue
                if token_id < 0:
                    raise _no_numbers() if token_id == NO_NUMBERS else none_left()
                pieces[index] = continuation.push(token_id, unseen_V)
            yield pieces
            if all(continuation.is_done for continuation in made):
                return

    def _steps(self, network: CachedNetwork, request: Request, made: Sequence[Continuation]) -> Iterator[list[str]]:
        """As `_made`: each token is drawn here, from logits."""
        for continuation in made:
            continuation.begin()
        (logits_V,) = self._usable(network.extend(request.prompt_ids, 0))
        network.share(len(request.prompt_ids))
        rows, running = [logits_V] * len(made), list(range(len(made)))
        while running:
            pieces = [""] * len(made)
            last_ids = [made[index].draw(logits_V) for index, logits_V in zip(running, rows, strict=True)]
            for index, token_id, logits_V in zip(running, last_ids, rows, strict=True):
                pieces[index] = made[index].push(token_id, logits_V)
            yield pieces
            going_on = [
                (index, token_id) for index, token_id in zip(running, last_ids, strict=True) if not made[index].is_done
            ]
            running = [index for index, _ in going_on]
            if running:
                positions = [made[index].position for index in running]
                rows = self._usable(network.extend_each([token_id for _, token_id in going_on], positions, running))

    def _drafted_steps(self, request: Request, made: Continuation, drafting: Drafting) -> Iterator[str]:
        """Yield what is certain of one text, token by token, until it has ended; the draft is refused before."""
        stats = made.stats.draft = DraftStats(*drafting.choose(self.tokenizer, request.settings))

        def steps() -> Iterator[str]:
            made.begin()
            draft = drafting.begin(self, request.settings)
            speculation = Speculation(
                self.network.fresh(), draft, prepare=self._usable, length=drafting.length, stats=stats
            )
            tokens = speculation.tokens(
                request.prompt_ids, made.state, made.generator, max_new_tokens=request.max_new_tokens
            )
            for token_id, logits_V in tokens:
                yield made.push(token_id, logits_V)
                if made.is_done:
                    return

        return steps()

    def _usable(self, logits_KV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [K, V] in which the embedding's padding rows stand for no token."""
        if not logits_KV.max() < np.inf:  # NaN is not, either
            raise _no_numbers()
        logits_KV[:, self.tokenizer.vocab_size :] = -np.inf
        return logits_KV


def _no_numbers() -> UserError:
    return UserError(
        "the model's predictions are not numbers: its weights have left their range",
        fix="use an earlier checkpoint, or train again with a lower train.lr",
    )


def _drafting(draft: Drafting | LanguageModel | str | None) -> Drafting | None:
    return draft if draft is None or isinstance(draft, Drafting) else Drafting(draft)
