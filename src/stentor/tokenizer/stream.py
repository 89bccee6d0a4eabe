"""Ids one by one in, complete characters out: what a screen or an HTTP stream needs."""

from __future__ import annotations

import codecs

from stentor.tokenizer.base import Tokenizer


class StreamDecoder:
    """Decode a growing sequence of ids without ever showing half a character.

    Everything returned, joined, is `tokenizer.decode` of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Return the characters that this token completes; often none, for a token inside a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what is left at the end: U+FFFD for a character that was never completed, else nothing."""
        return self._decoder.decode(b"", final=True)
