from itertools import repeat

from hypothesis import given
from hypothesis import strategies as st

from stentor.tokenizer.chunks import chunked


@given(texts=st.lists(st.text(max_size=30)), size=st.integers(1, 60))
def test_chunks_keep_every_text_in_order(texts, size):
    chunks = list(chunked(texts, size))
    assert [text for chunk in chunks for text in chunk] == texts
    assert all(chunk for chunk in chunks)
    for chunk in chunks:
        assert sum(len(text) + 1 for text in chunk[:-1]) < size


def test_reads_no_further_than_the_chunk_needs():
    assert next(chunked(repeat("abcd"), 20)) == ["abcd"] * 4
    assert next(chunked(repeat(""), 20)) == [""] * 20
