"""transformers' `generate`, greedy, in float32 and with a cache: what most people run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from stentor.bench.engine import Clock, Engine
from stentor.bench.setting import Request


def open_engine(request: Request) -> Engine:
    """Return the model of a folder in Hugging Face layout."""
    torch.set_num_threads(request.setting.num_threads)
    model = AutoModelForCausalLM.from_pretrained(
        request.path, dtype=torch.float32, attn_implementation=request.setting.attention
    )
    return GeneratingEngine(model.eval())


class GeneratingEngine:
    """A model whose `generate` hands over each token as it is made; the clock is read then.

    Args:
        model: of transformers.
        clock: tells the time.
    """

    def __init__(self, model: Any, *, clock: Clock = time.perf_counter) -> None:
        self.version = f"{transformers.__version__}, torch {torch.__version__}"
        self._model = model
        self._clock = clock

    def prefill(self, token_ids: Sequence[int]) -> float:
        """Return the seconds; see `Engine`."""
        started, moments = self._generate(token_ids, 1)
        return moments[0] - started

    def decode(self, token_ids: Sequence[int], num_new_tokens: int) -> float:
        """Return the seconds of a token; see `Engine`. The first is the prompt's."""
        _, moments = self._generate(token_ids, num_new_tokens + 1)
        return (moments[-1] - moments[0]) / num_new_tokens

    def _generate(self, token_ids: Sequence[int], num_new_tokens: int) -> tuple[float, list[float]]:
        """Return the moment before, and that at which each token was there."""
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=num_new_tokens, use_cache=True, eos_token_id=None, pad_token_id=0
        )
        input_ids, moments = torch.tensor([list(token_ids)]), _Moments(self._clock)
        started = self._clock()
        with torch.inference_mode():
            self._model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=settings,
                streamer=moments,
            )
        return started, moments.all[1:]  # the first to be handed over is the prompt


class _Moments(BaseStreamer):
    """Notes when something is handed over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.all: list[float] = []

    def put(self, value: Any) -> None:
        self.all.append(self._clock())

    def end(self) -> None:
        pass
