"""The closest mapping that llama.cpp has: what it matches, how it is written, and that it always comes to an end."""

from __future__ import annotations

import pytest
from gguf import TokenType
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.export.rwkv import RwkvVocabulary, rwkv_vocabulary
from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import SPECIAL_TOKENS, TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import NONE, Settings

ROWS = 320


def tokenizer_of(tokens: list[bytes], capcode: int = 2, unk_id: int = NONE) -> TokenMonsterTokenizer:
    settings = Settings(capcode=capcode)
    named = dict.fromkeys({*tokens, settings.delete_marker} - {b""}, 0.0)
    return TokenMonsterTokenizer(build_vocab(numbered(named), settings, unk_id=unk_id))


@pytest.fixture(scope="module")
def mapped(tiny_tokenmonster) -> RwkvVocabulary:
    return rwkv_vocabulary(tiny_tokenmonster, ROWS)


def unescaped(text: str) -> bytes:
    """Read a token as llama.cpp's llama_unescape_rwkv_token does, character by character."""
    out, escaping, hex_left, value = bytearray(), False, 0, 0
    for byte in text.encode():
        if hex_left:
            value = (value << 4) + (byte - ord("a") + 10 if byte >= ord("a") else byte - ord("0"))
            hex_left -= 1
            if not hex_left:
                out.append(value & 255)
                value = 0
        elif escaping:
            escaping = False
            if byte == ord("x"):
                hex_left = 2
            else:
                out.append({ord("t"): 9, ord("n"): 10, ord("r"): 13}.get(byte, byte))
        elif byte == ord("\\"):
            escaping = True
        else:
            out.append(byte)
    return bytes(out)


class Trie:
    """llama.cpp's own loop, step by step; a token that is only begun sends it back to the start, for ever."""

    def __init__(self, vocabulary: RwkvVocabulary) -> None:
        self.root: dict = {}
        self.unknown_id = vocabulary.unknown_id
        for token_id, text in enumerate(vocabulary.spellings()):
            node = self.root
            for byte in unescaped(text):
                node = node.setdefault(byte, {})
            node["id"] = token_id

    def encode(self, data: bytes) -> list[int]:
        found, position = [], 0
        while position < len(data):
            node = self.root.get(data[position])
            if node is None:
                found.append(self.unknown_id)
                position += 1
                continue
            token_id = length = 0
            while node is not None:
                if "id" in node:
                    token_id, length = node["id"], position + 1
                position += 1
                node = node.get(data[position]) if position < len(data) else None
            assert length, "llama.cpp would start again from the beginning"
            found.append(token_id)
            position = length
        return found


@given(data=st.binary(max_size=60))
def test_any_bytes_come_to_an_end_as_in_llama_cpp(tiny_tokenmonster, mapped, data):
    assert mapped.encode(data) == Trie(mapped).encode(data)


def test_texts_are_cut_as_llama_cpp_cuts_them(tiny_tokenmonster, mapped):
    trie = Trie(mapped)
    for text in mixed_strings(300, seed=8):
        for data in (text.encode(), tiny_tokenmonster.encoder.prepare(text.encode())):
            assert mapped.encode(data) == trie.encode(data)


def test_every_string_is_read_back_and_no_two_are_alike(mapped):
    spellings = mapped.spellings()
    assert [unescaped(text) for text in spellings] == mapped.token_bytes
    assert len(set(spellings)) == len(set(mapped.token_bytes)) == ROWS
    assert all(text.isascii() and text.isprintable() and text for text in spellings)


@given(data=st.binary(min_size=1, max_size=40))
def test_any_token_is_read_back(data):
    (text,) = RwkvVocabulary([data], [1], 0).spellings()
    assert unescaped(text) == data


def test_a_token_with_two_spellings_has_the_plain_one(mapped, tiny_tokenmonster):
    token_id = tiny_tokenmonster.encode("a")[0]
    assert tiny_tokenmonster.token_bytes(token_id) == b"D a"
    assert mapped.token_bytes[token_id] == b"a"


def test_no_text_can_spell_a_special_token_or_a_spare_row(mapped, tiny_tokenmonster):
    special = {tiny_tokenmonster.eos_token_id, tiny_tokenmonster.bos_token_id}
    untyped = special | set(range(tiny_tokenmonster.vocab_size, ROWS))
    texts = [*SPECIAL_TOKENS.values(), "[PAD300]", *(mapped.spellings()[row] for row in untyped)]
    for text in [*texts, *mixed_strings(200, seed=3)]:
        assert not untyped & set(mapped.encode(text.encode()))


def test_a_byte_that_begins_no_token_is_the_pad_that_no_model_was_trained_on(mapped, tiny_tokenmonster):
    assert mapped.unknown_id == tiny_tokenmonster.pad_token_id
    assert mapped.encode(b"\x00") == mapped.encode(b"Q") == mapped.encode(b"\xff") == [mapped.unknown_id]


def test_the_vocabularys_own_unk_is_used():
    tokenizer = tokenizer_of([b"a", b" ", b"ab"], unk_id=4)
    mapped = rwkv_vocabulary(tokenizer, 64)
    assert mapped.unknown_id == 4
    assert mapped.token_types[4] == TokenType.UNKNOWN
    assert mapped.encode(b"z\xff") == [4, 4]


def test_kinds(mapped, tiny_tokenmonster):
    end = tiny_tokenmonster.vocab.end_id
    assert set(mapped.token_types[:end]) == {TokenType.NORMAL}
    assert mapped.token_types[end : end + 3] == [TokenType.CONTROL] * 3
    assert set(mapped.token_types[end + 3 :]) == {TokenType.UNUSED}
    printed = mapped.printed(tiny_tokenmonster.vocab_size)
    assert printed[:end] == mapped.token_bytes[:end]
    assert printed[end:] == [b""] * 3


def test_a_byte_that_begins_tokens_and_is_none_gets_a_row():
    tokenizer = tokenizer_of([b" ", b"a", b"xyz", b"xy", b"qr"])
    mapped = rwkv_vocabulary(tokenizer, 64)
    first = tokenizer.vocab_size
    assert mapped.token_bytes[first : first + 2] == [b"q", b"x"]
    assert mapped.encode(b"xq") == [first + 1, first]
    assert Trie(mapped).encode(b"xxyzxyqqra") == mapped.encode(b"xxyzxyqqra")


def test_too_few_rows_for_such_bytes_are_refused():
    tokenizer = tokenizer_of([b" ", b"xy", b"qr"])
    with pytest.raises(UserError, match="2 bytes begin tokens and are none, and the embedding has 1 rows to spare"):
        rwkv_vocabulary(tokenizer, tokenizer.vocab_size + 1)


def test_a_vocabulary_of_every_byte_keeps_the_last_one():
    tokenizer = tokenizer_of([bytes([byte]) for byte in range(256)], capcode=0)
    mapped = rwkv_vocabulary(tokenizer, 320)
    assert [mapped.encode(bytes([byte])) for byte in range(256)] == [[byte] for byte in range(256)]
    assert mapped.token_bytes[tokenizer.pad_token_id] == b"\xff<|padding|>"
    assert len(set(mapped.token_bytes)) == 320


@pytest.mark.slow
@pytest.mark.parametrize("path", ["balanced", "unfiltered", "strict-nocapcode"])
def test_published_vocabularies_fit_into_8064_rows(shared, path):
    from stentor.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(shared / "tokenmonster" / "vocabs" / f"english-8000-{path}-v1.vocab")
    assert isinstance(tokenizer, TokenMonsterTokenizer)
    mapped = rwkv_vocabulary(tokenizer, 8064)
    trie = Trie(mapped)
    for text in mixed_strings(300, seed=2):
        assert mapped.encode(text.encode()) == trie.encode(text.encode())
