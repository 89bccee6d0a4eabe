"""Prepared text is what the encoder sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.tokenizer.tokenmonster.reference import capcode
from stentor.tokenizer.tokenmonster.training import text as module
from stentor.tokenizer.tokenmonster.training.text import prepare_texts
from stentor.tokenizer.tokenmonster.unicode13 import nfd


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.integers(0, 2))
def test_documents_are_prepared_one_by_one(documents, level):
    if not any(documents):
        return
    prepared = prepare_texts(documents, capcode=level, num_workers=2)
    assert prepared.num_documents == len(documents)
    assert prepared.num_bytes == sum(len(document.encode(errors="replace")) for document in documents)
    for index, document in enumerate(documents):
        found = prepared.data[prepared.starts[index] : prepared.starts[index + 1]].tobytes()
        assert found == capcode(nfd(document.encode(errors="replace")), level) + b"\0"


def test_text_that_grows_a_lot_has_room():
    prepared = prepare_texts(["1A" * 5000], capcode=2, num_workers=1)
    assert prepared.data.size > 3 * prepared.num_bytes


def test_chunks_and_threads_do_not_matter(texts, monkeypatch):
    whole = prepare_texts(texts, capcode=2, num_workers=1)
    monkeypatch.setattr(module, "_CHUNK_CHARACTERS", 300)
    parts = prepare_texts(iter(texts), capcode=2, num_workers=3)
    assert np.array_equal(whole.data, parts.data)
    assert np.array_equal(whole.starts, parts.starts)


def test_the_digest_tells_texts_apart(texts, monkeypatch):
    digests = {prepare_texts(some, capcode=2, num_workers=1).sha256 for some in (texts, texts[1:], [*texts, ""])}
    assert len(digests) == 3
    monkeypatch.setattr(module, "_CHUNK_CHARACTERS", 300)
    assert prepare_texts(texts, capcode=2, num_workers=1).sha256 in digests


@pytest.mark.parametrize("documents", [[], ["", ""]])
def test_no_text_is_refused(documents):
    with pytest.raises(UserError, match="no text to learn"):
        prepare_texts(documents, capcode=2, num_workers=1)


def test_too_much_text_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="more than 4 GB"):
        prepare_texts(["a long text"], capcode=2, num_workers=1)
