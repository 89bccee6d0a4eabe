"""The compiled path gives what the slow twin gives, whatever the input and however the work is divided."""

import multiprocessing
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.tokenizer.tokenmonster import tables
from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder
from stentor.tokenizer.tokenmonster.encoder import MIN_BYTES_PER_THREAD, Encoder
from stentor.tokenizer.tokenmonster.published import KNOWN_SHA256
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.tables import build_cells, vocab_arrays

PUBLISHED = [
    *("english-8000-balanced-v1", "english-8000-strict-nocapcode-v1", "english-4096-balanced-v1"),
    *("english-8000-unfiltered-v1", "english-8000-balanced-nocapcode-v1"),
]
"""A few of each kind, for tests that every run repeats."""
BYTES = [bytes([byte]) for byte in range(256)]


class Pair:
    """The two implementations over one vocabulary."""

    def __init__(self, vocab) -> None:
        self.vocab, self.slow, self.fast = vocab, Reference(vocab), Encoder(vocab)

    def decode(self, ids) -> bytes:
        decoder = StreamingDecoder(self.fast.arrays, self.vocab.settings.capcode)
        return decoder.push(ids) + decoder.finish()

    def check(self, texts) -> None:
        for text, ids in zip(texts, self.fast.encode(texts, 1), strict=True):
            prepared = self.slow.prepare(text)
            assert self.fast.prepare(text) == prepared, text
            assert ids.tolist() == self.slow.tokenize(prepared)[0], text
            assert self.decode(ids) == self.slow.decode(ids.tolist()), text


@pytest.fixture(scope="module")
def pair(published):
    """Return a function that gives the two implementations of a published vocabulary."""
    made: dict[str, Pair] = {}
    return lambda name: made.setdefault(name, Pair(published(name)))


@pytest.fixture(scope="module")
def small_pairs(small_vocab, small_tokens, make_vocab) -> list[Pair]:
    """Small vocabularies of all capcode levels, with and without UNK, a delete token and NFD."""
    with_bytes = make_vocab(small_tokens + BYTES, capcode=0)
    plain = make_vocab([b"a", b"ab", b"abab", b"b", b" a", b" ab", b"ba ", b"\0", b"a\0"], capcode=0, normalization=0)
    delete = make_vocab([token.replace(b"D", b"\x7f") for token in small_tokens], capcode=1)
    return [
        *map(Pair, (small_vocab, with_bytes, plain, delete, make_vocab(small_tokens, normalization=1 | 8 | 16 | 2)))
    ]


def test_vectors(vectors, published):
    for entry in vectors["vocabularies"]:
        name = entry["name"].split()[0].removesuffix(".vocab")
        both = Pair(published("sample-2048-balanced.vocab" if name == "tm-sample" else name))
        texts = [vector["text"].encode() for vector in entry["vectors"]]
        for vector, ids in zip(entry["vectors"], both.fast.encode(texts), strict=True):
            assert both.fast.prepare(vector["text"].encode()).hex() == vector["normalized_hex"]
            assert ids.tolist() == vector["ids"]
            assert both.decode(ids).hex() == vector["decoded_hex"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_fast_equals_slow_on_every_kind_of_input(pair, make_inputs, name):
    both = pair(name)
    both.check(make_inputs(250, 7, [record.token for record in both.vocab.records]))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_SHA256)
def test_fast_equals_slow_on_many_inputs(pair, make_inputs, name):
    """About 20 seconds each; benchmarks/tokenmonster_exact.py compares millions."""
    both = pair(name)
    both.check(make_inputs(15_000, 11, [record.token for record in both.vocab.records]))


@settings(max_examples=150)
@given(st.text() | st.text(alphabet="aAbB1' \u2019\u0301\u00c9\u00df\n."), st.integers(0, 4))
def test_fast_equals_slow_on_text(small_pairs, text, which):
    small_pairs[which].check([text.encode(errors="replace")])


@settings(max_examples=150)
@given(st.binary(), st.lists(st.integers(0, 10**6)), st.integers(0, 4))
def test_fast_equals_slow_on_bytes(small_pairs, small_tokens, data, choice, which):
    tokens = small_tokens + BYTES
    small_pairs[which].check([data, b"".join(tokens[index % len(tokens)] for index in choice) + data])


@settings(max_examples=100)
@given(st.sets(st.binary(min_size=1, max_size=6), min_size=1, max_size=40), st.lists(st.integers(0, 39)), st.binary())
def test_any_vocabulary(make_vocab, tokens, choice, tail):
    """Tokens that nobody would train: the tables hold, and nothing is read behind the end."""
    ordered = sorted(tokens)
    both = Pair(make_vocab(ordered, capcode=len(tokens) % 3))
    both.check([b"".join(ordered[index % len(ordered)] for index in choice) + tail])


def test_ids_do_not_depend_on_the_company_or_on_threads(pair, make_inputs):
    both = pair("english-8000-balanced-v1")
    texts = make_inputs(400, 3, [record.token for record in both.vocab.records])
    texts += [b" ".join(texts) * (1 + 4 * MIN_BYTES_PER_THREAD // sum(map(len, texts)))]
    alone = [both.fast.encode([text], 1)[0].tolist() for text in texts]
    for num_threads in (1, 2, 3, 16, None):
        assert [ids.tolist() for ids in both.fast.encode(texts, num_threads)] == alone
    assert both.fast.encode([]) == []


def test_threads_may_share_an_encoder(pair, make_inputs):
    both = pair("english-8000-balanced-v1")
    texts = make_inputs(100, 5, [b"a"])
    expected, found = [ids.tolist() for ids in both.fast.encode(texts, 1)], []
    threads = [threading.Thread(target=lambda: found.append(both.fast.encode(texts, 2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[ids.tolist() for ids in result] for result in found] == [expected] * 4


def _encode_there(fast: Encoder, texts: list[bytes], queue) -> None:
    queue.put([ids.tolist() for ids in fast.encode(texts, 2)])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_encode_too(pair, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    fast = pair("english-8000-balanced-v1").fast
    texts = [b"Hello World. " * 20_000] * 2
    expected = [ids.tolist() for ids in fast.encode(texts, 2)]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_encode_there, args=(fast, texts, queue))
    worker.start()
    assert queue.get(timeout=200) == expected
    worker.join()


@pytest.mark.parametrize(
    "text",
    [b"x", b" ", b"A", b"1A", "\u0301".encode(), "\u0301\u0323".encode(), b"\xff", "\u1e69".encode(), b"'s", b"the"],
    ids=lambda text: text.hex(),
)
def test_adversarial_text_takes_linear_time(pair, text):
    both = pair("english-8000-balanced-v1")
    both.check([text * 300])

    def seconds(size: int) -> float:
        data = [text * (size // len(text))]
        both.fast.encode(data, 1)
        started = time.process_time()
        both.fast.encode(data, 1)
        return time.process_time() - started

    assert seconds(1_600_000) < 0.05 + 16 * max(seconds(200_000), 0.002)


def test_a_vocabulary_too_large_for_the_tables_is_refused(small_vocab, monkeypatch):
    monkeypatch.setattr(tables, "MAX_RECORDS", 10)
    with pytest.raises(UserError, match="too large"):
        vocab_arrays(small_vocab)


def test_the_trie_holds_exactly_the_tokens(small_vocab):
    tokens = [record.token for record in small_vocab.records]
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    cells = build_cells(np.frombuffer(b"".join(tokens), np.uint8), starts)
    found = {}

    def descend(node: int, prefix: bytes) -> None:
        value, base = int(cells[node]) & 0x1FFFFF, (int(cells[node]) >> 21) & 0x1FFFFF
        if value:
            found[prefix] = value - 1
        for byte in range(256) if base else ():
            if int(cells[base + byte]) >> 42 == node + 1:
                descend(base + byte, prefix + bytes([byte]))

    descend(0, b"")
    assert found == {token: index for index, token in enumerate(tokens)}
