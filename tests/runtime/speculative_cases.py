"""Networks and vocabularies small enough to know everything about what they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stentor.model.config import ModelConfig
from stentor.runtime.network import CachedNetwork
from stentor.runtime.sampling import Sampling, SamplingState, distribution, draw, generator_of
from stentor.runtime.speculative.decoding import Draft, DraftStats, Speculation
from stentor.runtime.speculative.length import DraftLength
from stentor.runtime.speculative.lookup import LookupDraft
from stentor.runtime.speculative.text_draft import TextDraft
from stentor.runtime.speculative.token_draft import TokenDraft
from stentor.tokenizer import Tokenizer

PLAIN = Sampling(temperature=1, top_p=1, repetition_penalty=1)
GREEDY = Sampling(temperature=0)


class TableNetwork(CachedNetwork):
    """Says what comes after the last two tokens, by a table of random numbers; strict about how it is asked.

    Args:
        vocab_size: number of logits.
        seed: of the table.
        allowed: ids that may come at all; all where none are named.
        context_length: tokens that it reads.
        spread: of the logits.
    """

    def __init__(
        self,
        vocab_size: int,
        seed: int = 0,
        *,
        allowed: Sequence[int] | None = None,
        context_length: int = 64,
        spread: float = 2.0,
    ) -> None:
        self.config = ModelConfig(vocab_size=vocab_size, max_position_embeddings=context_length)
        generator = np.random.default_rng(seed)
        self._tables: list[np.ndarray] = [
            generator.normal(size=(vocab_size, vocab_size), scale=spread).astype(np.float32) for _ in "ab"
        ]
        if allowed is not None:
            self._tables[0][:, np.setdiff1d(np.arange(vocab_size), allowed)] = -np.inf
        self._read: list[int] = []
        self._given = np.zeros((0, 0), np.float32)
        self.num_read = 0

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> np.ndarray:
        assert len(token_ids) > 0
        assert sequence == 0
        assert start <= len(self._read), "a gap in what was read"
        assert start + len(token_ids) <= self.config.max_position_embeddings, "beyond the context"
        assert 0 <= min(token_ids) <= max(token_ids) < self.config.vocab_size
        self._given[:] = np.nan  # no longer valid
        self._read[start:] = token_ids
        self.num_read += len(token_ids)
        places = range(start, start + len(token_ids))
        rows = [self.row(self._read[: place + 1]) for place in (places if all_scored else places[-1:])]
        self._given = np.array(rows)
        return self._given

    def extend_each(self, token_ids, positions, sequences) -> np.ndarray:
        """Read a token of each sequence: of the one there is."""
        return self.extend(token_ids, positions[0], sequence=sequences[0])

    def share(self, length: int) -> None:
        """Do nothing: there is one sequence."""

    def window_nats(self, inputs_BT: np.ndarray, targets_BT: np.ndarray) -> np.ndarray:
        """Nobody asks for it here."""
        raise NotImplementedError

    def row(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the logits after a text."""
        before = token_ids[-2] if len(token_ids) > 1 else 0
        return self._tables[0][token_ids[-1]] + self._tables[1][before]

    def fresh(self, num_sequences: int = 1) -> TableNetwork:
        """Return the same network, which has read nothing."""
        twin = TableNetwork.__new__(TableNetwork)
        twin.config, twin._tables = self.config, self._tables
        twin._read, twin._given, twin.num_read = [], np.zeros((0, 0), np.float32), 0
        return twin


def mixed(first: TableNetwork, second: TableNetwork, share: float) -> TableNetwork:
    """Return a network between two: a draft that is often right about the first."""
    made = first.fresh()
    made._tables = [(1 - share) * one + share * other for one, other in zip(first._tables, second._tables, strict=True)]
    return made


def state_of(sampling: Sampling, prompt_ids: Sequence[int], tokenizer: Tokenizer, vocab_size: int) -> SamplingState:
    return SamplingState(sampling, prompt_ids, vocab_size=vocab_size, eos_token_id=tokenizer.eos_token_id)


def plain_tokens(
    target: TableNetwork, tokenizer: Tokenizer, prompt_ids: Sequence[int], sampling: Sampling, *, count: int, seed: int
) -> list[int]:
    """Return tokens without a draft: the slow twin, which remembers nothing."""
    state, generator = state_of(sampling, prompt_ids, tokenizer, target.config.vocab_size), generator_of(seed)
    token_ids = list(prompt_ids)
    while len(state.output_ids) < count and len(token_ids) <= target.config.max_position_embeddings:
        token_id = draw(distribution(target.row(token_ids), state), generator)
        token_ids.append(token_id)
        if token_id == tokenizer.eos_token_id:
            break
        state.push(token_id)
    return token_ids[len(prompt_ids) :]


def speculated(
    target: CachedNetwork,
    tokenizer: Tokenizer,
    draft: Draft,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    count: int,
    generator: Any = None,
    length: DraftLength | int | None = None,
    stats: DraftStats | None = None,
    take: int | None = None,
) -> list[int]:
    """Return tokens with a draft, up to an EOS; of the `count` that are asked for only the first, if `take` says so."""
    state = state_of(sampling, prompt_ids, tokenizer, target.config.vocab_size)
    length = length if isinstance(length, DraftLength) else DraftLength(length)
    stats = DraftStats("test") if stats is None else stats
    speculation = Speculation(target, draft, prepare=lambda logits_KV: logits_KV, length=length, stats=stats)
    made: list[int] = []
    for token_id, _ in speculation.tokens(prompt_ids, state, generator or generator_of(0), max_new_tokens=count):
        made.append(token_id)
        if token_id == tokenizer.eos_token_id or len(made) == take:
            break
        state.push(token_id)
    return made


def draft_of(
    method: str,
    network: CachedNetwork,
    tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    sampling: Sampling,
    vocab_size: int,
) -> Draft:
    """Return a draft by the name of its method."""
    if method == "lookup":
        return LookupDraft()
    if method == "text":
        return TextDraft(network, tokenizer, target_tokenizer, sampling=sampling)
    return TokenDraft(network, tokenizer, target_tokenizer, vocab_size=vocab_size)


# --- every way in which a random program can come out ---


class Chance:
    """Takes the place of a generator: decides each draw of one run as it is told, and notes what else could come."""

    def __init__(self, decided: list[int]) -> None:
        self._decided = decided
        self.weights: list[np.ndarray] = []
        self.probability = 1.0

    def choose(self, probs: np.ndarray) -> int:
        place = len(self.weights)
        self.weights.append(probs)
        choice = self._decided[place] if place < len(self._decided) else int(np.flatnonzero(probs > 0)[0])
        if place >= len(self._decided):
            self._decided.append(choice)
        self.probability *= float(probs[choice])
        return choice


def outcomes(program: Callable[[Chance], tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    """Return the exact probability of each result of a program, by running it for every way its draws can come out."""
    found: dict[tuple[int, ...], float] = {}
    decided: list[int] | None = []
    while decided is not None:
        chance = Chance(decided)
        result = program(chance)
        found[result] = found.get(result, 0.0) + chance.probability
        decided = _next(decided[: len(chance.weights)], chance.weights)
    return found


def _next(decided: list[int], weights: list[np.ndarray]) -> list[int] | None:
    """Return the decisions of the next run in order: the last one that has another choice takes it."""
    for place in reversed(range(len(decided))):
        later = [choice for choice in np.flatnonzero(weights[place] > 0).tolist() if choice > decided[place]]
        if later:
            return [*decided[:place], later[0]]
    return None


def patch_draws(monkeypatch: Any) -> None:
    """Let a `Chance` decide wherever speculative decoding asks for a random number."""
    for module in ("decoding", "verification", "token_draft"):
        monkeypatch.setattr(
            f"stentor.runtime.speculative.{module}.draw", lambda probs_V, chance: chance.choose(np.asarray(probs_V))
        )

    def happens(probability: float, chance: Chance) -> bool:
        kept = min(1.0, float(probability))
        return bool(chance.choose(np.array([1 - kept, kept])))

    monkeypatch.setattr("stentor.runtime.speculative.verification.happens", happens)


def exact_outcomes(
    target: TableNetwork, tokenizer: Tokenizer, prompt_ids: Sequence[int], sampling: Sampling, count: int
) -> dict[tuple[int, ...], float]:
    """Return the probability of each of the target's own next tokens, `count` of them or fewer up to an EOS."""
    state = state_of(sampling, prompt_ids, tokenizer, target.config.vocab_size)

    def walk(made: tuple[int, ...], probability: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(made) == count or (made and made[-1] == tokenizer.eos_token_id):
            yield made, probability
            return
        probs_V = distribution(target.row([*prompt_ids, *made]), state)
        for token_id in np.flatnonzero(probs_V).tolist():
            state.push(token_id)
            yield from walk((*made, token_id), probability * float(probs_V[token_id]))
            state.pop()

    return dict(walk((), 1.0))
