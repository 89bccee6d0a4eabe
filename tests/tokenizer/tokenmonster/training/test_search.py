"""The search keeps what must stay, ends with the wanted number, and finds what is obviously best."""

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.training.pool import Pool
from stentor.tokenizer.tokenmonster.training.search import FAST, THOROUGH, Effort, Search
from stentor.tokenizer.tokenmonster.training.state import StateFolder
from stentor.tokenizer.tokenmonster.training.text import prepare_texts
from stentor.tokenizer.tokenmonster.vocab_file import Settings

SINGLES = frozenset(bytes([byte]) for byte in b" abcdefghijklmnopqrstuvwxyzCDW.\n")
NUM_WANTED = len(SINGLES) + 3
QUICK = Effort(pool_factor=4, share_far=0.3, share_near=0.1, num_swaps=6, swap_share=0.5, sample_bytes=1 << 30)
USEFUL, USELESS = [b" stone", b" river", b" under"], [b" stonx", b"qq", b" rixer", b"zz"]
PARTS = [b"st", b"one", b"ri", b"ver", b" un", b"der", b" s", b" r", b" u", b"er"]


@pytest.fixture(scope="module")
def text():
    return prepare_texts(["stone river under stone. river under " * 20] * 5, capcode=2, num_workers=1)


@pytest.fixture(scope="module")
def pool() -> Pool:
    counts = {**dict.fromkeys(USEFUL, 100), **dict.fromkeys(USELESS, 2), **dict.fromkeys(PARTS, 100)}
    return Pool(counts, SINGLES, Settings(capcode=2))


def search(pool, text, size=NUM_WANTED, effort=QUICK, seed=0, num_workers=1) -> Search:
    return Search(pool, text, vocab_size=size, effort=effort, seed=seed, num_workers=num_workers)


def test_the_words_of_the_text_are_found(pool, text):
    seen = []
    found = search(pool, text).run(None, lambda state: seen.append((int(state.is_chosen.sum()), state.num_tokens)))
    assert {pool.tokens[index] for index in np.flatnonzero(found)} == SINGLES | {*USEFUL}
    counts = [count for count, _ in seen]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(SINGLES) + 3
    tokens = [num_tokens for _, num_tokens in seen if num_tokens]
    assert tokens == sorted(tokens, reverse=True)
    assert len(tokens) == QUICK.num_swaps + 1


def test_swapping_mends_a_bad_start(pool, text):
    worse = search(pool, text, effort=Effort(4, 1.0, 1.0, 0, 0.5, 1 << 30))
    better = search(pool, text, effort=Effort(4, 1.0, 1.0, 40, 0.5, 1 << 30))
    worse.run(None, lambda _: None)
    better.run(None, lambda _: None)
    assert better.state.num_tokens <= worse.state.num_tokens


def test_single_bytes_stay_whatever_the_text(pool):
    nothing_known = prepare_texts(["12345 67890"], capcode=2, num_workers=1)
    found = search(pool, nothing_known).run(None, lambda _: None)
    assert found[pool.is_fixed].all()
    assert found.sum() == len(SINGLES) + 3


def test_a_pool_that_is_all_wanted(pool, text):
    found = search(pool, text, size=len(pool.tokens)).run(None, lambda _: None)
    assert found.all()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 3, 8])
def test_a_stopped_search_goes_on_to_the_same_end(pool, text, tmp_path, stop_after):
    expected = search(pool, text, seed=4)
    expected.run(None, lambda _: None)
    rounds = []

    def stop(state) -> None:
        rounds.append(state.step)
        if len(rounds) == stop_after:
            raise StoppedError

    with pytest.raises(StoppedError):
        search(pool, text, seed=4).run(StateFolder(tmp_path, "x"), stop)
    resumed = search(pool, text, seed=4, num_workers=3)
    resumed.run(StateFolder(tmp_path, "x"), lambda state: rounds.append(state.step))
    assert rounds == [*range(1, expected.state.step + 1)]
    assert np.array_equal(resumed.state.is_chosen, expected.state.is_chosen)
    assert np.array_equal(resumed.state.yields, expected.state.yields)
    assert resumed.state.num_tokens == expected.state.num_tokens


def test_a_sample_of_the_text_is_enough(pool, text):
    found = search(pool, text, effort=Effort(4, 0.3, 0.1, 2, 0.5, text.data.size // 3)).run(None, lambda _: None)
    assert {pool.tokens[index] for index in np.flatnonzero(found)} == SINGLES | {*USEFUL}


def test_thorough_looks_further_than_fast():
    assert THOROUGH.pool_factor > FAST.pool_factor
    assert THOROUGH.num_swaps > FAST.num_swaps
    assert THOROUGH.share_near < FAST.share_near
