"""Decoding by chunks gives what decoding at once gives; no id and no cut makes it fail."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder
from stentor.tokenizer.tokenmonster.encoder import Encoder
from stentor.tokenizer.tokenmonster.reference import Reference, uncapcode
from stentor.tokenizer.tokenmonster.tables import vocab_arrays
from stentor.tokenizer.tokenmonster.utf8 import unfinished_tail

EVERY_BYTE = [bytes([byte]) for byte in range(256)]
EMOJI = "\U0001f600 \u4e2d\u6587 caf\u00e9 \U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea!"


@pytest.fixture(scope="module", params=[0, 1, 2])
def by_bytes(request, make_vocab):
    """One id for each byte, at every capcode level: any bytes can be decoded."""
    vocab = make_vocab(EVERY_BYTE, capcode=request.param)
    id_of = {record.token: record.id for record in vocab.records if not record.is_duplicate}
    pieces = [vocab.pieces().index(byte) if byte in vocab.pieces() else id_of[byte] for byte in EVERY_BYTE]
    return vocab, vocab_arrays(vocab), pieces


def chunked_decode(arrays, level: int, chunks) -> bytes:
    decoder = StreamingDecoder(arrays, level)
    return b"".join(decoder.push(chunk) for chunk in chunks) + decoder.finish()


def texts_between_unknown(vocab, ids: list[int]) -> list[bytes]:
    """Return the prepared texts that ids beyond the vocabulary end."""
    texts = [b""]
    for token_id in ids:
        if 0 <= token_id < vocab.end_id:
            texts[-1] += vocab.pieces()[token_id]
        else:
            texts.append(b"")
    return texts


@settings(max_examples=200)
@given(st.lists(st.integers(-5, 300), max_size=60), st.randoms(use_true_random=False))
def test_any_ids_in_any_chunks(by_bytes, ids, source: random.Random):
    vocab, arrays, _ = by_bytes
    level = vocab.settings.capcode
    whole = b"".join(uncapcode(part, level) for part in texts_between_unknown(vocab, ids))
    assert chunked_decode(arrays, level, [ids]) == whole
    assert chunked_decode(arrays, level, [[i] for i in ids]) == whole
    cuts = sorted(source.randint(0, len(ids)) for _ in range(4))
    assert (
        chunked_decode(arrays, level, [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]) == whole
    )


def test_split_characters_survive(published):
    """The original fails on 630 of 1,500 such texts."""
    vocab = published("english-8000-balanced-v1")
    ids = Reference(vocab).encode(EMOJI.encode())
    decoder = StreamingDecoder(vocab_arrays(vocab), 2)
    parts = [decoder.push([token_id]) for token_id in ids]
    assert b"".join(parts) == Reference(vocab).decode(ids)
    assert all(part.decode() is not None for part in parts)  # never half a character
    assert decoder.finish() == b""


def test_upper_case_forms_may_be_longer(published):
    """Eight of U+2C6F in capitals: the original fails."""
    vocab = published("english-8000-balanced-v1")
    text = ("\u2c6f" * 8).encode()
    assert Encoder(vocab).prepare(text) == Reference(vocab).prepare(text)
    ids = Encoder(vocab).encode([text])[0]
    assert chunked_decode(vocab_arrays(vocab), 2, [ids]) == text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"a", 0),
        (b"\xc3", 1),
        (b"a\xe2\x82", 2),
        (b"\xe2\x82\xac", 0),
        (b"\xf0\x9f\x98", 3),
        (b"\xf0", 1),
        (b"\xe0\x80", 0),
        (b"\xed\xa0", 0),
        (b"\xf4\x90", 0),
        (b"\xf5", 0),
        (b"\xc1", 0),
        (b"\x80\x80\x80", 0),
        (b"\x80", 0),
        (b"\xf0\x9f\x98\x80", 0),
    ],
)
def test_only_what_may_become_a_character_is_held_back(data, expected):
    assert unfinished_tail(np.frombuffer(data, np.uint8), len(data)) == expected


@given(st.binary(max_size=8))
def test_held_back_bytes_begin_a_character(data):
    kept = unfinished_tail(np.frombuffer(data, np.uint8), len(data))
    tail = data[len(data) - kept :]
    endings = [b"\x80", b"\x90", b"\xa0"]
    complete = [tail + a + b for a in [b"", *endings] for b in ([b"", *endings] if a else [b""])]
    complete += [part + b"\x80" for part in complete]
    assert not kept or any(_is_one_character(part) for part in complete)


def _is_one_character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("opened", [b"W", b"C", b"D", b"W hi", b"\xe2\x82"])
def test_what_a_text_leaves_open_does_not_reach_into_the_next(by_bytes, opened):
    vocab, arrays, pieces = by_bytes
    level = vocab.settings.capcode
    ids = [*(pieces[byte] for byte in opened), vocab.end_id, *(pieces[byte] for byte in b"x y")]
    expected = uncapcode(opened, level) + b"x y"
    assert chunked_decode(arrays, level, [ids]) == expected
    assert chunked_decode(arrays, level, [[i] for i in ids]) == expected


@given(st.binary(max_size=40), st.integers(0, 40))
def test_prepared_text_decodes_like_the_ids_that_spell_it(by_bytes, data, cut):
    vocab, arrays, _ = by_bytes
    decoder = StreamingDecoder(arrays, vocab.settings.capcode)
    joined = decoder.push_prepared(data[:cut]) + decoder.push_prepared(data[cut:]) + decoder.finish()
    assert joined == uncapcode(data, vocab.settings.capcode)
