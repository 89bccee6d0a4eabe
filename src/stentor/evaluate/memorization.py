"""How much of its training text a model says by heart: a few tokens of a document, then greedy text, compared with it.

A greedy continuation equals the document up to a token exactly where each token so far is the likeliest after those
before it, so the document itself is read and no text is made.

Reference: Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", arXiv 2202.07646.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stentor.errors import UserError
from stentor.model.measure import Progress
from stentor.runtime.engine import LanguageModel
from stentor.runtime.network import CachedNetwork

RUNS = (1, 5, 10, 20, 50, 100, 200)
"""The share of samples with a run of at least so many tokens is reported."""
_QUANTILES = (0.5, 0.9, 0.99)
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Run:
    """How far a model goes on with a document by heart.

    Attributes:
        document: its name.
        num_tokens: that equal the document, after the prompt.
        text: what these tokens say.
        is_whole: the run ended with the document, or with the context, and not with another token.
    """

    document: str
    num_tokens: int
    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Memorization:
    """The runs of a sample.

    Attributes:
        runs: one for each sampled document.
        num_prompt_tokens: that the model is given.
        num_documents: from which the sample was drawn.
        num_short_documents: sampled, but too short for a prompt and a token.
        seed: of the draw.
    """

    runs: list[Run]
    num_prompt_tokens: int
    num_documents: int
    num_short_documents: int
    seed: int

    @property
    def longest(self) -> Run:
        """The longest run; the first of equals."""
        return max(self.runs, key=lambda run: run.num_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, as `--json` prints them."""
        lengths = np.array([run.num_tokens for run in self.runs])
        longest = self.longest
        return {
            "num_samples": len(self.runs),
            "num_prompt_tokens": self.num_prompt_tokens,
            "num_documents": self.num_documents,
            "num_short_documents": self.num_short_documents,
            "seed": self.seed,
            "mean_tokens": float(lengths.mean()),
            "quantiles": {str(share): float(np.quantile(lengths, share)) for share in _QUANTILES},
            "share_at_least": {str(count): float((lengths >= count).mean()) for count in RUNS},
            "longest_tokens": longest.num_tokens,
            "longest_document": longest.document,
            "longest_text": longest.text,
            "num_whole": sum(run.is_whole for run in self.runs),
            "runs": [{"document": run.document, "num_tokens": run.num_tokens} for run in self.runs],
        }


def memorization(
    model: LanguageModel,
    documents: Iterable[tuple[str, str]],
    *,
    num_samples: int = 200,
    num_prompt_tokens: int = 32,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Memorization:
    """Measure how long a model goes on with sampled documents word for word, from a random place in each.

    Args:
        model: as it computes.
        documents: names and texts that it was trained on; they stream through, and a sample is kept.
        num_samples: documents, drawn uniformly.
        num_prompt_tokens: of a document that the model is given; at its beginning an EOS stands before.
        seed: of the draw.
        on_progress: called with (documents tried, documents sampled).

    Raises:
        UserError: no document is long enough, or a number is out of its range.
    """
    context_length = model.network.config.max_position_embeddings
    if num_samples < 1:
        raise UserError(f"{num_samples} documents cannot be sampled", fix="sample one document or more")
    if not 1 <= num_prompt_tokens <= context_length - 2:
        raise UserError(
            f"a prompt of {num_prompt_tokens} tokens leaves no room in a context of {context_length}",
            fix=f"use 1 to {context_length - 2} tokens",
        )
    generator = random.Random(seed)
    sampled, num_documents = _sample(documents, num_samples, generator)
    network, runs = model.network.fresh(), list[Run]()
    for number, (name, text) in enumerate(sampled, 1):
        ids = [model.tokenizer.eos_token_id, *model.tokenizer.encode(text)]
        if len(ids) > num_prompt_tokens + 1:
            start = generator.randrange(len(ids) - num_prompt_tokens - 1)
            taken = ids[start : start + context_length]
            prompt_end = num_prompt_tokens + (start == 0)  # the EOS is no token of the document: it comes on top
            count = greedy_run(network, taken, prompt_end)
            said = model.tokenizer.decode(taken[prompt_end : prompt_end + count])
            runs.append(Run(name, count, said, prompt_end + count == len(taken)))
        if on_progress:
            on_progress(number, len(sampled))
    if not runs:
        raise UserError(
            f"no sampled document has more than {num_prompt_tokens} tokens", fix="give the model a shorter prompt"
        )
    return Memorization(runs, num_prompt_tokens, num_documents, len(sampled) - len(runs), seed)


def greedy_run(network: CachedNetwork, ids: Sequence[int], prompt_end: int) -> int:
    """Return how many tokens from `prompt_end` on are the likeliest one each, up to the first that is not."""
    start = 0
    while start < len(ids) - 1:
        end = prompt_end if start == 0 else min(start + _AT_ONCE, len(ids) - 1)
        logits_KV = network.extend(ids[start:end], start, all_scored=start > 0)
        for place, token_id in enumerate(logits_KV.argmax(axis=1).tolist(), end - len(logits_KV) + 1):
            if token_id != ids[place]:
                return place - prompt_end
        start = end
    return len(ids) - prompt_end


def _sample(
    documents: Iterable[tuple[str, str]], size: int, generator: random.Random
) -> tuple[list[tuple[str, str]], int]:
    """Return a uniform sample of a stream, and how long the stream was.

    Reference: Vitter 1985, "Random Sampling with a Reservoir", algorithm R.
    """
    kept: list[tuple[str, str]] = []
    count = 0
    for count, document in enumerate(documents, 1):
        if len(kept) < size:
            kept.append(document)
        elif (place := generator.randrange(count)) < size:
            kept[place] = document
    return kept, count
