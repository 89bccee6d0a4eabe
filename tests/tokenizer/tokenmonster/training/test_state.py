"""What is kept comes back exactly; anything else counts as absent."""

import numpy as np
import pytest

from stentor.tokenizer.tokenmonster.training.state import SearchState, StateFolder


@pytest.fixture
def folder(tmp_path) -> StateFolder:
    return StateFolder(tmp_path / "state", "mine")


def some_state(count: int = 21) -> SearchState:
    generator = np.random.default_rng(5)
    return SearchState(7, 2, generator.random(count) < 0.5, generator.random(count), num_tokens=1234, swap_size=99)


def test_tokens_come_back(folder):
    counts = {b"a": 3, b"\n": 1 << 40, b"\x00\xff two": 0, b"x" * 40: 5}
    folder.save_tokens(counts)
    assert folder.load_tokens() == counts


@pytest.mark.parametrize("count", [1, 8, 21])
def test_the_search_comes_back(folder, count):
    state = some_state(count)
    folder.save_search(state)
    kept = folder.load_search(count)
    for name in ("step", "num_swaps", "num_tokens", "swap_size"):
        assert getattr(kept, name) == getattr(state, name)
    assert np.array_equal(kept.is_chosen, state.is_chosen)
    assert np.array_equal(kept.yields, state.yields)
    kept.yields[0] = 1  # it can be gone on with


def test_nothing_is_there_at_first(folder):
    assert folder.load_tokens() is None
    assert folder.load_search(3) is None
    folder.remove()


def test_another_run_is_not_gone_on_with(folder):
    folder.save_tokens({b"a": 1})
    folder.save_search(some_state())
    other = StateFolder(folder.path, "other")
    assert other.load_tokens() is None
    assert other.load_search(21) is None


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:70] + b"?" + data[71:], lambda _: b""])
def test_a_damaged_file_counts_as_absent(folder, damage):
    folder.save_search(some_state())
    file = folder.path / "search"
    file.write_bytes(damage(file.read_bytes()))
    assert folder.load_search(21) is None


def test_removing_leaves_what_is_not_ours(folder):
    folder.save_tokens({b"a": 1})
    folder.save_search(some_state())
    (folder.path / "notes.txt").write_text("mine")
    folder.remove()
    assert [file.name for file in folder.path.iterdir()] == ["notes.txt"]
    (folder.path / "notes.txt").unlink()
    folder.remove()
    assert not folder.path.exists()
