"""The slow twin against the vectors of the original, and the properties that the original promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.tokenmonster.normalize import NFD, normalize
from stentor.tokenizer.tokenmonster.reference import Reference, capcode, uncapcode
from stentor.tokenizer.tokenmonster.unicode13 import nfd

LOSSY = dict.fromkeys(map(ord, "\u0130\u2126\u212a\u212b\u03f4\u1e9e\x7f"))


def vector_vocabularies(vectors, published):
    for entry in vectors["vocabularies"]:
        name = entry["name"].split()[0].removesuffix(".vocab")
        yield published("sample-2048-balanced.vocab" if name == "tm-sample" else name), entry


def test_headers_and_vectors(vectors, published):
    num_checked = 0
    for vocab, entry in vector_vocabularies(vectors, published):
        assert vocab.end_id == entry["header"]["n_reverse"]
        assert len(vocab.records) == entry["header"]["n_info"]
        reference = Reference(vocab)
        for vector in entry["vectors"]:
            prepared = reference.prepare(vector["text"].encode())
            assert prepared.hex() == vector["normalized_hex"]
            assert reference.tokenize(prepared) == (vector["ids"], vector["missing_bytes"])
            assert reference.decode(vector["ids"]).hex() == vector["decoded_hex"]
            num_checked += 1
    assert num_checked == 60


def test_capcode_examples(vectors):
    assert len(vectors["capcode_examples_after_nfd"]) == 46
    for example in vectors["capcode_examples_after_nfd"]:
        text = normalize(example["text"].encode(), NFD)
        for level in (1, 2):
            assert capcode(text, level).decode() == example[f"level{level}"]
            kept = text.replace(b"\x7f", b"\x14") if level == 1 else text
            assert uncapcode(capcode(text, level), level) == kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A1b", "DC aD 1D b"),
        ("ABC1d", "DC aDC bDC cD 1D d"),
        ("USA's", "DC uDC sDC a's"),
        ("  Two  Spaces", " C two C spaces"),
        ("DW", "DW dw"),
        ("aB", "D aDW b"),
        ("ABcD", "DC aDC bcDW d"),
        ("\u1e9e\U0001d400\U0001d400b", "DC \u00df\U0001d400\U0001d400b"),
    ],
)
def test_capitals_by_hand(text, expected):
    assert capcode(text.encode(), 2).decode() == expected


@given(st.text().map(lambda text: text.translate(LOSSY)), st.sampled_from([0, 1, 2]))
def test_capcode_loses_nothing_of_what_it_can_carry(text, level):
    data = nfd(text.encode(errors="replace"))
    assert uncapcode(capcode(data, level), level) == data


@given(st.binary(), st.sampled_from([0, 1, 2]))
def test_any_bytes_pass(data, level):
    uncapcode(data, level)
    kept = data.replace(b"\x7f", b"")
    if not any(byte > 0xC2 for byte in kept):
        assert uncapcode(capcode(kept, level), level) == kept


def test_published_text_comes_back(published):
    reference = Reference(published("english-8000-balanced-v1"))
    for text in mixed_strings(60, 1):
        data = "".join(c for c in text if c.isprintable() or c in "\n\t").translate(LOSSY).encode(errors="replace")
        assert reference.decode(reference.encode(data)) == nfd(data)


def test_unknown_bytes_vanish(small_vocab):
    reference = Reference(small_vocab)
    assert reference.tokenize(b"\x01a\x02") == ([small_vocab.records[reference.index_of[b"a"]].id], 2)
    assert reference.decode([10**6]) == b""
