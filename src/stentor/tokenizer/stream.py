"""Ids one by one in, complete characters out: what a screen or an HTTP stream needs."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from stentor.tokenizer.base import Tokenizer


class StreamDecoder:
    """Decode a growing sequence of ids without ever showing half a character.

    Everything returned, joined, is `tokenizer.decode` of all the ids; with `after`, it is what their text adds to
    the text of the ids before them.

    Args:
        tokenizer: of any family.
        after: ids that stand before, such as a prompt's. They decide whether the first new letter is a capital or
            whether a space goes before it, where tokens can say so.
    """

    def __init__(self, tokenizer: Tokenizer, *, after: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._bytes = tokenizer.streaming_decoder()
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._characters.decode(self._bytes.push(after))

    def push(self, token_id: int) -> str:
        """Return the characters that this token completes; often none, for a token inside a character.

        Raises:
            UserError: the vocabulary has no such id.
        """
        self._tokenizer.require_known(token_id)
        return self._characters.decode(self._bytes.push([token_id]))

    def finish(self) -> str:
        """Return what is left at the end: U+FFFD for a character that was never completed, else nothing."""
        return self._characters.decode(self._bytes.finish(), final=True)
