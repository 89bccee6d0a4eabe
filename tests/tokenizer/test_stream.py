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


# --- a family whose tokens change each other ---


@pytest.fixture(params=["byte-level BPE", "TokenMonster"])
def either(request, tokenizer, tiny_tokenmonster):
    return tokenizer if request.param == "byte-level BPE" else tiny_tokenmonster


monster_ids = st.lists(st.integers(0, 270), max_size=40)  # 268 tokens and the special ones
DECOMPOSED = "Caf\u0065\u0301 \U0001f600 HELLO World's \u4e2d\u6587, it is 3.14\n\nIn THE end"


@given(ids=monster_ids)
def test_capcoded_stream_joined_is_the_text(tiny_tokenmonster, ids):
    assert "".join(streamed(tiny_tokenmonster, ids)) == tiny_tokenmonster.decode(ids)


@given(ids=monster_ids, cut=st.integers(0, 40))
def test_after_other_ids_it_is_what_they_add(tiny_tokenmonster, ids, cut):
    first = StreamDecoder(tiny_tokenmonster)
    shown = "".join(map(first.push, ids[:cut]))
    rest = StreamDecoder(tiny_tokenmonster, after=ids[:cut])
    assert shown + "".join(map(rest.push, ids[cut:])) + rest.finish() == tiny_tokenmonster.decode(ids)


@given(text=st.text(max_size=40) | st.just(DECOMPOSED))
def test_streamed_text_of_either_family_is_its_decode(tokenizer, tiny_tokenmonster, text):
    for family in (tokenizer, tiny_tokenmonster):
        ids = family.encode(text)
        assert "".join(streamed(family, ids)) == family.decode(ids)


def test_every_piece_of_a_stream_is_whole(either):
    ids = either.encode(DECOMPOSED)
    assert "".join(streamed(either, ids)) == DECOMPOSED
    assert "\ufffd" not in "".join(streamed(either, ids))


def test_a_word_in_capitals_goes_on_in_capitals(tiny_tokenmonster):
    ids = tiny_tokenmonster.encode("THE END")
    for cut in range(1, len(ids)):
        decoder = StreamDecoder(tiny_tokenmonster, after=ids[:cut])
        assert tiny_tokenmonster.decode(ids[:cut]) + "".join(map(decoder.push, ids[cut:])) == "THE END"


def test_a_document_does_not_reach_into_the_next(either):
    eos = either.eos_token_id
    ids = [*either.encode("HELLO"), eos, *either.encode("world"), eos, *either.encode(" Apart")]
    assert "".join(streamed(either, ids)) == either.decode(ids) == "HELLOworld Apart"


def test_ids_that_no_family_has_are_refused(either):
    for token_id in (-1, either.vocab_size, 10**9):
        with pytest.raises(UserError, match="outside the vocabulary"):
            StreamDecoder(either).push(token_id)
