import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.shards.collate import collate


def test_pads_to_the_next_multiple_of_eight():
    batch = collate([[5, 6, 7], [8] * 9], pad_token_id=2)
    assert batch["input_ids"].tolist() == [[5, 6, 7] + [2] * 13, [8] * 9 + [2] * 7]
    assert batch["labels"].tolist() == [[5, 6, 7] + [-100] * 13, [8] * 9 + [-100] * 7]
    assert batch["attention_mask"].tolist() == [[1] * 3 + [0] * 13, [1] * 9 + [0] * 7]


@pytest.mark.parametrize(("longest", "length"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16), (1024, 1024)])
def test_length_is_rounded_up(longest, length):
    assert collate([[5] * longest, []], pad_token_id=0)["input_ids"].shape == (2, length)


def test_no_sequences_make_an_empty_batch():
    assert collate([], pad_token_id=0)["input_ids"].shape == (0, 0)


@given(sequences=st.lists(st.lists(st.integers(0, 300), max_size=30), max_size=6), pad_token_id=st.integers(0, 300))
def test_mask_gives_the_sequences_back(sequences, pad_token_id):
    batch = collate(sequences, pad_token_id=pad_token_id)
    assert all(array.dtype == np.int64 for array in batch.values())
    for row, ids in enumerate(sequences):
        mask = batch["attention_mask"][row] == 1
        assert batch["input_ids"][row][mask].tolist() == batch["labels"][row][mask].tolist() == ids
        assert (batch["input_ids"][row][~mask] == pad_token_id).all()
        assert (batch["labels"][row][~mask] == -100).all()


def test_a_pad_id_within_the_text_keeps_its_label():
    batch = collate([[0, 5, 0]], pad_token_id=0)
    assert batch["labels"].tolist() == [[0, 5, 0, -100, -100, -100, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
