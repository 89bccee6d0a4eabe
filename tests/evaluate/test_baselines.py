"""Baselines against the programs they are named after and against entropies known by hand."""

from __future__ import annotations

import gzip
import itertools
import lzma
import math
import shutil
import subprocess
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.evaluate.baselines import Baselines, baselines


class ByteTokenizer:
    """One token a byte."""

    def encode(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


class WordTokenizer:
    """One token a word, numbered as they come."""

    def __init__(self) -> None:
        self.ids: dict[bytes, int] = {}

    def encode(self, text: str | bytes) -> list[int]:
        data = text if isinstance(text, bytes) else text.encode()
        return [self.ids.setdefault(word, len(self.ids)) for word in data.split(b" ")]


def by_hand(texts: list[str | bytes]) -> Baselines:
    """Compute the same from the definition, with everything in memory: the slow twin."""
    documents = [text if isinstance(text, bytes) else text.encode(errors="replace") for text in texts]
    data = b"".join(documents)
    symbols = [*data, *["EOS"] * len(documents)]
    counts = Counter(symbols)
    nats = -sum(math.log(counts[symbol] / len(symbols)) for symbol in symbols)
    return Baselines(
        gzip_bits_per_byte=8 * len(gzip.compress(data, 9)) / len(data),
        xz_bits_per_byte=8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data),
        unigram_bits_per_byte=nats / math.log(2) / len(data),
        num_bytes=len(data),
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text() | st.binary(max_size=300), max_size=8).filter(any))
def test_equal_to_the_definition(texts):
    found, expected = baselines(texts, ByteTokenizer()), by_hand(texts)
    assert found.num_bytes == expected.num_bytes
    assert found.gzip_bits_per_byte == expected.gzip_bits_per_byte
    assert found.xz_bits_per_byte == expected.xz_bits_per_byte
    assert found.unigram_bits_per_byte == pytest.approx(expected.unigram_bits_per_byte, abs=1e-9)


@pytest.mark.parametrize(("program", "field"), [("gzip", "gzip_bits_per_byte"), ("xz", "xz_bits_per_byte")])
def test_equal_to_the_program(tmp_path, program, field):
    if not shutil.which(program):
        pytest.skip(f"needs the program {program}")
    texts = [f"Chapter {n}. It was a dark and stormy night, the {n * n}th of them.\n" for n in range(2000)]
    flag = {"gzip": ["-9", "-n"], "xz": ["-9e", "-T1"]}[program]
    data = "".join(texts).encode()
    packed = subprocess.run([program, "-c", *flag], input=data, capture_output=True, check=True).stdout
    size = getattr(baselines(texts, ByteTokenizer()), field) * len(data) / 8
    assert size == pytest.approx(len(packed), abs=64)  # wrapper and flush may differ by a few bytes


def test_unigram_known_by_hand():
    # Four tokens and one EOS: a, a, b, b of two bytes each with their space, all but the last.
    found = baselines(["a a b b"], WordTokenizer())
    bits = 2 * math.log2(5 / 2) * 2 + math.log2(5)
    assert found.unigram_bits_per_byte == pytest.approx(bits / 7)


def test_uniform_random_bytes_need_eight_bits():
    data = bytes(itertools.islice(itertools.cycle(range(256)), 256 * 400))
    assert baselines([data], ByteTokenizer()).unigram_bits_per_byte == pytest.approx(8.0, abs=1e-3)


def test_unigram_bounds_every_model_without_context():
    texts = ["the cat sat on the mat", "the dog sat"]
    words = [word for text in texts for word in [*text.split(" "), "EOS"]]
    floor = baselines(texts, WordTokenizer()).unigram_bits_per_byte
    num_bytes = sum(map(len, texts))
    for extra in range(5):  # frequencies with `extra` added to each: some other model of single tokens
        counts = Counter(words)
        total = sum(counts.values()) + extra * len(counts)
        bits = -sum(math.log2((counts[word] + extra) / total) for word in words)
        assert bits / num_bytes >= floor - 1e-12


def test_separators_have_no_bytes_and_documents_cost_an_eos():
    whole, halves = baselines(["abcdefgh"], ByteTokenizer()), baselines(["abcd", "efgh"], ByteTokenizer())
    assert whole.num_bytes == halves.num_bytes == 8
    assert whole.xz_bits_per_byte == halves.xz_bits_per_byte
    assert whole.gzip_bits_per_byte == halves.gzip_bits_per_byte
    assert whole.unigram_bits_per_byte < halves.unigram_bits_per_byte


def test_text_and_its_bytes_are_the_same():
    text = "na\u00efve \U0001f600 text"
    assert baselines([text], ByteTokenizer()) == baselines([text.encode()], ByteTokenizer())
    assert baselines(["a\ud800b"], ByteTokenizer()) == baselines(["a?b"], ByteTokenizer())


@pytest.mark.parametrize("texts", [[], [""], ["", b""]])
def test_no_text_is_one_sentence(texts):
    with pytest.raises(UserError, match="no text") as caught:
        baselines(texts, ByteTokenizer())
    assert caught.value.fix


def test_memory_does_not_grow_with_the_text():
    class Constant:
        def encode(self, text):
            return [0]

    def peak_bytes(num_documents):
        tracemalloc.start()
        baselines((f"{n} ".encode() * 5_000 for n in range(num_documents)), Constant())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(400) - peak_bytes(4) < 200_000


def test_to_dict_has_the_names_of_the_fields():
    assert set(baselines(["x"], ByteTokenizer()).to_dict()) == {
        "gzip_bits_per_byte",
        "xz_bits_per_byte",
        "unigram_bits_per_byte",
        "num_bytes",
    }
