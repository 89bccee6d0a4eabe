"""A vocabulary optimised for the fewest tokens, in a tokenizer.json that any stock program opens.

Nothing is normalised or spelt out; any bytes come back. The segmentation is the best there is: no other one with the
same vocabulary has fewer tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.errors import UserError
from stentor.tokenizer.library import LibraryTokenizer, SpecialTokens
from stentor.tokenizer.unigram_file import parse_unigram_file, write_unigram_file

if TYPE_CHECKING:
    from stentor.tokenizer.tokenmonster.training.train import Say

PIECE_CHARACTERS = 16_384
_LINE_END = re.compile(r"(?<=\n)(?!\n)")
_NUM_BYTES = 256


class UnigramTokenizer(LibraryTokenizer):
    """A Unigram vocabulary with equal scores. Made by `train_unigram` or `Tokenizer.load`."""

    def _cut(self, text: str) -> Iterator[str]:
        """Yield lines, several together; the file cuts there in any case."""
        start = 0
        while len(text) - start > PIECE_CHARACTERS:
            if (boundary := _LINE_END.search(text, start + PIECE_CHARACTERS)) is None:
                break
            yield text[start : boundary.start()]
            start = boundary.start()
        if start < len(text):
            yield text[start:]


def train_unigram(
    texts: Iterable[str],
    *,
    vocab_size: int = 8000,
    is_fast: bool = False,
    seed: int = 0,
    state_dir: Path | None = None,
    num_workers: int | None = None,
    say: Say = lambda detail, share: None,
) -> UnigramTokenizer:
    """Learn the vocabulary with which the texts need the fewest tokens.

    Args:
        texts: documents; they are kept in memory.
        vocab_size: tokens in all: 256 bytes, the learned rest, and EOS, BOS and PAD above them.
        is_fast: look at fewer candidates and stop earlier.
        seed: decides which swaps are tried at the end.
        state_dir: where the state is kept while it runs, so that a killed run can go on; it is gone at the end.
        num_workers: threads; None uses every core. The result is the same for any number.
        say: receives progress in words.

    Raises:
        UserError: the size is too small, or the texts do not contain so many candidates.
    """
    from stentor.tokenizer.tokenmonster.training.fewest import learn_fewest
    from stentor.tokenizer.tokenmonster.training.settings import MAX_VOCAB_SIZE, TrainingSettings

    special = SpecialTokens()
    names = [special.eos, special.bos, special.pad]
    smallest = _NUM_BYTES + len(names) + 1
    if not smallest <= vocab_size <= MAX_VOCAB_SIZE:
        raise UserError(
            f"a vocabulary of {vocab_size} tokens cannot be learned",
            fix=f"ask for {smallest} to {MAX_VOCAB_SIZE}",
        )
    settings = TrainingSettings(
        vocab_size=vocab_size - len(names),
        mode="unfiltered",
        capcode=0,
        is_fast=is_fast,
        seed=seed,
        single_bytes="all",
        only_latin=False,
    )
    tokens = learn_fewest(texts, settings, state_dir=state_dir, num_workers=num_workers, say=say)
    return UnigramTokenizer(parse_unigram_file(write_unigram_file(tokens, names), "the new tokenizer"), special)
