"""Group a stream of texts so that every core has work and memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CHUNK_CHARACTERS = 2_000_000


def chunked(texts: Iterable[str], max_characters: int = CHUNK_CHARACTERS) -> Iterator[list[str]]:
    """Yield lists of texts, in order, each of about `max_characters` in all; a longer text comes alone or last.

    Args:
        texts: any stream; it is read no further than the chunk needs.
        max_characters: a chunk is complete once it holds this many.
    """
    chunk: list[str] = []
    num_characters = 0
    for text in texts:
        chunk.append(text)
        num_characters += len(text) + 1  # empty texts cost something too
        if num_characters >= max_characters:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk
