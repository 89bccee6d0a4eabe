import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.tokenizer.stream import StreamDecoder


def streamed(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(i) for i in ids), decoder.finish()]


# Ids of single bytes are the ones that break characters.
any_ids = st.lists(st.integers(0, 799) | st.integers(3, 258), max_size=60)


@given(ids=any_ids)
def test_stream_joined_is_the_text(tokenizer, ids):
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@given(data=st.binary(max_size=40))
def test_stream_of_single_bytes_is_the_text(tokenizer, data):
    ids = [tokenizer.encode(bytes([byte]))[0] for byte in data]
    assert "".join(streamed(tokenizer, ids)) == data.decode(errors="replace")


@given(text=st.text(max_size=40))
def test_every_prefix_is_a_prefix_of_the_text(tokenizer, text):
    shown = ""
    for piece in streamed(tokenizer, [i for c in text for b in c.encode() for i in tokenizer.encode(bytes([b]))]):
        shown += piece
        assert text.startswith(shown)


def test_half_a_character_is_never_shown(tokenizer):
    ids = [tokenizer.encode(bytes([byte]))[0] for byte in "\U0001f600".encode()]
    assert streamed(tokenizer, ids) == ["", "", "", "\U0001f600", ""]
    assert streamed(tokenizer, ids[:3]) == ["", "", "", "\ufffd"]


def test_specials_show_nothing_and_break_nothing(tokenizer):
    first, second = (tokenizer.encode(bytes([byte]))[0] for byte in "\u00e9".encode())
    assert streamed(tokenizer, [1, first, 2, second, 0]) == ["", "", "", "\u00e9", "", ""]


def test_unknown_id_is_refused(tokenizer):
    with pytest.raises(UserError, match="outside the vocabulary"):
        StreamDecoder(tokenizer).push(800)
