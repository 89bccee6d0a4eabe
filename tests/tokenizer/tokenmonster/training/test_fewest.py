"""The fewest tokens, counted by the kernel and by plain search."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.training import scoring
from stentor.tokenizer.tokenmonster.training.fewest import learn_fewest, measure_fewest
from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.training.settings import TrainingSettings
from stentor.tokenizer.tokenmonster.training.text import prepare_texts
from stentor.tokenizer.tokenmonster.vocab_file import Settings

SINGLES = [bytes([byte]) for byte in range(256)]
LONGER = [b"th", b"the", b"he", b" t", b" the", b"er", b"re", b"ea", b"and", b"an", b"nd", b" a", b"\n\n", b"ing"]
SETTINGS = TrainingSettings(vocab_size=300, mode="unfiltered", capcode=0, single_bytes="all", is_fast=True)


def plain_uses(lines: list[bytes], tokens: list[bytes]) -> dict[bytes, int]:
    """Count the tokens of the best segmentations, in which of equals the last token is the longest."""
    uses, known = dict.fromkeys(tokens, 0), {*tokens}
    for line in lines:
        best: list[list[bytes]] = [[]]
        for end in range(1, len(line) + 1):
            ways = [[*best[start], line[start:end]] for start in range(end) if line[start:end] in known]
            best.append(min(ways, key=len))
        for token in best[-1]:
            uses[token] += 1
    return uses


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_uses_are_those_of_the_best_segmentations(texts, every, num_workers, monkeypatch):
    monkeypatch.setattr(scoring, "_PART_BYTES", 500)
    text = prepare_texts(texts, capcode=0, num_workers=1, is_decomposed=False)
    pool = Pool(dict.fromkeys(LONGER, 1), frozenset(SINGLES), Settings(capcode=0))
    arrays = pool.arrays(np.ones(len(pool.tokens), np.bool_))
    assert arrays is not None
    with ThreadPoolExecutor(num_workers) as threads:
        usage = measure_fewest(arrays, text, threads, every)
    expected = plain_uses([line.encode() for line in texts[::every]], pool.tokens)
    assert dict(zip(pool.tokens, usage.uses.tolist(), strict=True)) == expected
    assert usage.num_tokens == sum(expected.values())


def test_a_long_line_has_room():
    text = prepare_texts(["the and " * 5000], capcode=0, num_workers=1, is_decomposed=False)
    pool = Pool({b"the and ": 1}, frozenset(SINGLES), Settings(capcode=0))
    arrays = pool.arrays(np.ones(len(pool.tokens), np.bool_))
    assert arrays is not None
    with ThreadPoolExecutor(1) as threads:
        assert measure_fewest(arrays, text, threads).num_tokens == 5000


def test_learned_tokens_are_sorted_and_keep_to_lines(texts):
    tokens = learn_fewest(texts, SETTINGS, state_dir=None, num_workers=1, say=lambda detail, share: None)
    assert len(tokens) == 300
    assert tokens == sorted(tokens, key=lambda token: (len(token), token))
    assert tokens[:256] == SINGLES
    assert not any(b"\n" in token.rstrip(b"\n") for token in tokens)
    assert any("\u00e9".encode() in token for token in tokens)  # not decomposed
