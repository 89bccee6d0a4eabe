"""Blocks are each taken once, by as many threads as torch has, and what goes wrong in one is raised."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stentor.model.kernels_cpu import threads
from stentor.model.kernels_cpu.threads import blocks_of, over_blocks, over_row_blocks


@pytest.fixture(params=["openmp", "python"])
def team(request, monkeypatch):
    """Take torch's own threads where they can be had, and Python's."""
    if request.param == "python":
        monkeypatch.setattr(threads, "_openmp_team", lambda: None)
    elif threads._openmp_team() is None:
        pytest.skip("this torch does not say where its OpenMP is")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_blocks", [0, 1, 2, 3, 50])
def test_each_block_is_taken_once(team, three_threads, num_blocks):
    taken = []
    over_blocks(taken.append, num_blocks)
    assert sorted(taken) == list(range(num_blocks))


def test_threads_work_side_by_side(team, three_threads):
    barrier = threading.Barrier(3, timeout=60)
    over_blocks(lambda _: barrier.wait(), 3)


def test_one_thread_takes_all_in_order(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    taken = []
    over_blocks(lambda block: taken.append((block, threading.get_ident())), 4)
    assert taken == [(block, threading.get_ident()) for block in range(4)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_is_raised(team, three_threads, error):
    def work(block: int) -> None:
        if block == 5:
            raise error("block 5")

    with pytest.raises(error, match="block 5"):
        over_blocks(work, 20)
    taken = []
    over_blocks(taken.append, 20)
    assert len(taken) == 20


@given(num_rows=st.integers(0, 300), rows_per_block=st.integers(1, 70))
def test_blocks_cover_the_rows(num_rows, rows_per_block):
    taken = []
    over_row_blocks(lambda *block: taken.append(block), num_rows, rows_per_block)
    assert [number for number, _, _ in sorted(taken)] == list(range(blocks_of(num_rows, rows_per_block)))
    assert [row for _, start, end in sorted(taken) for row in range(start, end)] == list(range(num_rows))


def test_torch_computes_on_the_thread_that_asks(team, three_threads):
    """A product within a block stays on its thread, and gives what it gives outside."""
    a, b = torch.randn(6, 40, 30), torch.randn(6, 30, 20)
    out = torch.empty(6, 40, 20)
    over_blocks(lambda block: torch.mm(a[block], b[block], out=out[block]), 6)
    assert torch.allclose(out, a @ b, atol=1e-5)
