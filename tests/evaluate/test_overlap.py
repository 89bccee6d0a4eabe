"""13 words in a row: against a slow twin of sets of tuples, and the rules of words."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.evaluate.overlap import NUM_WORDS, DocumentOverlap, OverlapIndex, words_of

WORDS = ["the", "of", "and", "to", "in", "is", "it", "was", "for", "on", "are", "as", "with", "his", "they"]


def prose(generator: random.Random, count: int, words: list[str] = WORDS) -> str:
    return " ".join(generator.choice(words) for _ in range(count))


def slow(documents: list[str], training: list[str]) -> list[DocumentOverlap]:
    """Compare sets of tuples of words."""

    def ngrams(text: str) -> list[tuple[str, ...]]:
        words = words_of(text)
        return [tuple(words[start : start + NUM_WORDS]) for start in range(len(words) - NUM_WORDS + 1)]

    seen = {ngram for text in training for ngram in ngrams(text)}
    return [DocumentOverlap(len(own := ngrams(text)), sum(ngram in seen for ngram in own)) for text in documents]


@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_sets(seed):
    generator = random.Random(seed)
    documents = [prose(generator, generator.randrange(40)) for _ in range(4)]
    training = [prose(generator, generator.randrange(60)) for _ in range(3)]
    for text in documents:  # copy a stretch of some into the training text, among words of its own
        words = text.split()
        start, count = generator.randrange(40), generator.randrange(25)
        training.append(" ".join(["else", *words[start : start + count], "other", *words[start : start + count]]))
    index = OverlapIndex(documents)
    index.look_in(training)
    assert index.overlaps() == slow(documents, training)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The CAT, sat.", ["the", "cat", "sat"]),
        ("don't 'quote' don\u2019t", ["dont", "quote", "dont"]),
        ("a-b a\u2014b snake_case", ["a", "b", "a", "b", "snake", "case"]),
        ("1,000 x2\n\ty", ["1", "000", "x2", "y"]),
        ("\u00c9cole na\u00efve", ["\u00e9cole", "na\u00efve"]),
        ("... --- !", []),
        ("", []),
    ],
)
def test_words_are_normalised(text, words):
    assert words_of(text) == words


def test_case_punctuation_and_spaces_do_not_hide_an_overlap():
    text = " ".join(f"w{n}" for n in range(13))
    index = OverlapIndex([text, text + " more"])
    index.look_in([text.upper().replace(" ", ",\n")])
    assert index.overlaps() == [DocumentOverlap(1, 1), DocumentOverlap(2, 1)]


def test_twelve_words_are_no_overlap_and_documents_do_not_run_together():
    words = [f"w{n}" for n in range(13)]
    index = OverlapIndex([" ".join(words)])
    index.look_in([" ".join(words[:12]), " ".join(words[:7]), " ".join(words[7:]), "else " + " ".join(words[1:])])
    (overlap,) = index.overlaps()
    assert overlap.is_clean
    assert overlap.share == 0


def test_what_was_found_stays_found():
    generator = random.Random(0)
    text = prose(generator, 30, [f"w{n}" for n in range(500)])
    index = OverlapIndex([text])
    index.look_in([text])
    index.look_in(["nothing of it"])
    assert index.overlaps()[0].share == 1


@pytest.mark.parametrize("documents", [["a b c"], ["", ""]])
def test_short_documents_have_no_ngrams(documents):
    index = OverlapIndex(documents)
    index.look_in(["a b c " * 20])
    assert [overlap.num_ngrams for overlap in index.overlaps()] == [0] * len(documents)
    assert all(overlap.is_clean for overlap in index.overlaps())


def test_no_document_is_refused():
    with pytest.raises(UserError, match="no text to look for"):
        OverlapIndex([])


def test_progress_counts_documents_and_bytes():
    seen: list[tuple[int, int]] = []
    OverlapIndex(["a"]).look_in(["ab", "caf\u00e9"], on_progress=lambda *now: seen.append(now))
    assert seen == [(1, 2), (2, 7)]


def test_memory_does_not_grow_with_the_training_text():
    generator = random.Random(1)
    index = OverlapIndex([prose(generator, 200)])
    index.look_in(["warm up"])

    def peak(num_documents: int) -> int:
        tracemalloc.start()
        index.look_in(" ".join(f"x{n}y{k}" for k in range(500)) for n in range(num_documents))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(200) - peak(2) < 100_000
