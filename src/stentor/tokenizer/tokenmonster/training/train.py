"""Learn a TokenMonster vocabulary from text: candidates, then the search for the best few, then the file's form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stentor.artifacts import locked_directory
from stentor.errors import UserError
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.training.candidates import Candidates, find_candidates
from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.training.scoring import Usage, measure_usage
from stentor.tokenizer.tokenmonster.training.search import FAST, THOROUGH, Effort, Measure, Search
from stentor.tokenizer.tokenmonster.training.settings import TRAINED_MODES, TrainingSettings
from stentor.tokenizer.tokenmonster.training.state import SearchState, StateFolder
from stentor.tokenizer.tokenmonster.training.text import PreparedText, prepare_texts

Say = Callable[[str, float | None], None]
"""Takes what is being done, and the share of it that is done."""
_FAST_BYTES_PER_OCCURRENCE, _BYTES_PER_OCCURRENCE = 1_000_000, 10_000_000
_MIN_OCCURRENCES, _MIN_POOL = 2, 20_000
_RESUMED = "going on where an earlier run was stopped"


def train_tokenmonster(
    texts: Iterable[str],
    settings: TrainingSettings,
    *,
    state_dir: Path | None = None,
    num_workers: int | None = None,
    say: Say = lambda detail, share: None,
) -> TokenMonsterTokenizer:
    """Learn a vocabulary; the same texts, settings and seed give the same file, whatever the number of threads.

    Args:
        texts: documents; they are kept in memory.
        settings: what to learn.
        state_dir: where the state is kept while it runs, so that a killed run can go on; it is gone at the end.
        num_workers: threads; None uses every core.
        say: receives progress in words.

    Raises:
        UserError: the texts do not contain so many candidates; or another process uses `state_dir`.
    """

    def prepare(workers: int) -> PreparedText:
        return prepare_texts(texts, capcode=settings.capcode, num_workers=workers)

    return _tokenizer(learn(prepare, settings, state_dir=state_dir, num_workers=num_workers, say=say))


@dataclass(frozen=True, slots=True)
class Learned:
    """The end of a search.

    Attributes:
        pool: what was looked at.
        is_chosen: for each token of the pool, whether it was taken.
        text: what it was learned from.
        usage: how often each record of the chosen tokens is used in the text.
    """

    pool: Pool
    is_chosen: NDArray[np.bool_]
    text: PreparedText
    usage: Usage


def learn(
    prepare: Callable[[int], PreparedText],
    settings: TrainingSettings,
    *,
    measure: Measure = measure_usage,
    state_dir: Path | None = None,
    num_workers: int | None = None,
    say: Say = lambda detail, share: None,
) -> Learned:
    """Find candidates in a text, and the best few of them.

    Args:
        prepare: returns the text; takes the number of threads.
        settings: what to learn.
        measure: how uses are counted.
        state_dir: as for `train_tokenmonster`.
        num_workers: as for `train_tokenmonster`.
        say: receives progress in words.
    """
    workers = num_workers or os.cpu_count() or 1
    text = prepare(workers)
    effort = FAST if settings.is_fast else THOROUGH
    with locked_directory(state_dir) if state_dir else nullcontext():
        folder = StateFolder(state_dir, settings.fingerprint(text.sha256)) if state_dir else None
        pool = _pool(text, settings, folder, workers, say)
        search = Search(
            pool,
            text,
            vocab_size=settings.vocab_size,
            effort=effort,
            seed=settings.seed,
            num_workers=workers,
            measure=measure,
        )
        is_chosen = search.run(folder, lambda state: say(*_progress(state, settings.vocab_size, effort)))
        arrays = pool.arrays(is_chosen)
        assert arrays is not None, "the pool fits the encoder's tables"
        with ThreadPoolExecutor(workers) as threads:
            learned = Learned(pool, is_chosen, text, measure(arrays, text, threads, 1))
    if folder:
        folder.remove()
    return learned


def _pool(text: PreparedText, settings: TrainingSettings, folder: StateFolder | None, workers: int, say: Say) -> Pool:
    fixed = settings.bytes_with_tokens
    if folder and (kept := folder.load_tokens()):
        say(_RESUMED, None)
        return Pool(kept, fixed, settings.file_settings)
    found = _candidates(text, settings, workers, say)
    num_found = found.starts.size + len(fixed)
    if num_found < settings.vocab_size:
        raise UserError(
            f"the text gives only {num_found} tokens, {settings.vocab_size} were asked for",
            fix=f"give more text, or ask for a vocabulary of {num_found} or less",
        )
    factor = (FAST if settings.is_fast else THOROUGH).pool_factor
    size = max(_MIN_POOL, factor * settings.vocab_size)
    say(f"{found.starts.size:,} candidates, looking at the best {min(size, found.starts.size):,}", None)
    counts = _best_first(found, text, size)
    pool = Pool(counts, fixed, settings.file_settings)
    while pool.arrays(np.ones(len(pool.tokens), np.bool_)) is None:
        counts = dict(islice(counts.items(), len(counts) * 9 // 10))
        pool = Pool(counts, fixed, settings.file_settings)
    if folder:
        folder.save_tokens(counts)
    return pool


def _candidates(text: PreparedText, settings: TrainingSettings, workers: int, say: Say) -> Candidates:
    """Return the candidates that occur often enough; where that is not said, often enough to be sufficiently many."""
    bytes_per_occurrence = _FAST_BYTES_PER_OCCURRENCE if settings.is_fast else _BYTES_PER_OCCURRENCE
    enough = settings.min_occurrences or max(_MIN_OCCURRENCES, text.data.size // bytes_per_occurrence)
    while True:
        found = find_candidates(
            text,
            mode=TRAINED_MODES.index(settings.mode),
            capcode=settings.capcode,
            min_occurrences=enough,
            only_valid=settings.only_valid,
            only_latin=settings.only_latin,
            num_workers=workers,
            on_progress=lambda done, whole: say(f"looking for candidates: {done} of {whole} parts", done / whole),
        )
        if settings.min_occurrences or enough == _MIN_OCCURRENCES or found.starts.size >= 2 * settings.vocab_size:
            return found
        enough = max(_MIN_OCCURRENCES, enough // 4)


def _best_first(found: Candidates, text: PreparedText, size: int) -> dict[bytes, int]:
    """Return how often each of the best candidates occurs.

    The best save the most tokens against single bytes; of equals, those come first whose bytes do.
    """
    saved = found.counts * (found.lengths - 1)
    tokens = [text.data[start : start + length].tobytes() for start, length in zip(*found[:2], strict=True)]
    ranked = sorted(zip((-saved).tolist(), tokens, found.counts.tolist(), strict=True))
    return {token: count for _, token, count in ranked[:size]}


def _progress(state: SearchState, vocab_size: int, effort: Effort) -> tuple[str, float | None]:
    if not state.num_tokens:
        return f"pruning: {int(state.is_chosen.sum()):,} tokens left, {vocab_size:,} wanted", None
    share = state.num_swaps / max(1, effort.num_swaps)
    return f"swap {state.num_swaps} of {effort.num_swaps}: {state.num_tokens:,} tokens for the text", share


def _tokenizer(learned: Learned) -> TokenMonsterTokenizer:
    """Return the chosen tokens as a vocabulary; a score is the share of the text's bytes that a token covers."""
    pool, text = learned.pool, learned.text
    records = pool.chosen_records(learned.is_chosen)
    covered = np.zeros(len(pool.tokens), np.int64)
    np.add.at(covered, pool.token_of[records], learned.usage.uses * pool.lengths[records])
    scores = (covered / max(1, text.data.size - text.num_documents)).astype(np.float32)
    chosen = {pool.tokens[index]: float(scores[index]) for index in np.flatnonzero(learned.is_chosen)}
    return TokenMonsterTokenizer(build_vocab(numbered(chosen), pool.settings))
