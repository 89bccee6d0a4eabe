"""Two vocabularies of one text: the tokens they share, and the text of the one as ids of the other."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stentor.tokenizer import Tokenizer

MAX_UNSETTLED_BYTES = 256
"""Of a text without words no more than this is encoded again."""
_WORD_BOUNDARY = re.compile(rb"(?<=[A-Za-z.,;:!?])(?= [A-Za-z])|(?<=\n)(?=\w)")


@dataclass(frozen=True, slots=True)
class SharedTokens:
    """Tokens of two vocabularies that stand for the same bytes, and EOS.

    Attributes:
        target_ids: their ids in the one [S].
        draft_ids: in the other [S]; or slices, where the vocabularies are the same.
    """

    target_ids: NDArray[np.int64] | slice
    draft_ids: NDArray[np.int64] | slice
    num_tokens: int

    def to_target(self, draft_logits_V: NDArray[np.floating], vocab_size: int) -> NDArray[np.float64]:
        """Return a draft's logits as the target's ids [vocab_size]; -inf for a token that is not shared."""
        logits_V = np.full(vocab_size, -np.inf)
        logits_V[self.target_ids] = draft_logits_V[self.draft_ids]
        return logits_V

    def draft_id_of(self) -> dict[int, int] | None:
        """Return the draft's id of each shared token; None where it is the same one."""
        if isinstance(self.target_ids, slice) or isinstance(self.draft_ids, slice):
            return None
        return dict(zip(self.target_ids.tolist(), self.draft_ids.tolist(), strict=True))


@lru_cache(maxsize=8)
def shared_tokens(target: Tokenizer, draft: Tokenizer) -> SharedTokens:
    """Find the tokens that two vocabularies share.

    A token's bytes are those it stands for alone: where tokens change each other, as capitals do in TokenMonster, a
    draft's guess may turn out to be another text than it meant, and is then not kept.
    """
    if is_same_vocabulary(target, draft):
        same = slice(0, target.vocab_size)
        return SharedTokens(same, same, target.vocab_size)
    draft_ids = {data: token_id for token_id, data in reversed(list(enumerate(_bytes_alone(draft)))) if data}
    pairs = {draft.eos_token_id: target.eos_token_id}
    for target_id, data in enumerate(_bytes_alone(target)):
        if data in draft_ids:
            pairs.setdefault(draft_ids[data], target_id)
    return SharedTokens(np.array(list(pairs.values()), np.int64), np.array(list(pairs), np.int64), len(pairs))


@lru_cache(maxsize=8)
def is_same_vocabulary(target: Tokenizer, draft: Tokenizer) -> bool:
    """Whether the ids of both mean the same."""
    if (target.vocab_size, target.eos_token_id) != (draft.vocab_size, draft.eos_token_id):
        return False
    return target.sha256 == draft.sha256 or _spelling(target) == _spelling(draft)


def _spelling(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]


def _bytes_alone(tokenizer: Tokenizer) -> list[bytes]:
    """Return what each token stands for by itself."""
    return [tokenizer.decode_bytes([token_id]) for token_id in range(tokenizer.vocab_size)]


class OtherVocabulary:
    """Follows a growing text of one vocabulary in the ids of another.

    The prompt is encoded once. Of what came after it only the last word or two are encoded again when text is added,
    since a boundary of words is one of tokens; where it is not, the ids are still ids of that text.

    Args:
        source: the vocabulary that the text comes in.
        tokenizer: the one it is followed in.
    """

    def __init__(self, source: Tokenizer, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = source.streaming_decoder()
        self._num_read = 0
        self.prompt_ids: list[int] = []
        self._settled_ids: list[int] = []
        self._unsettled = b""

    def follow(self, token_ids: Sequence[int], num_prompt_tokens: int) -> list[int]:
        """Return the ids of the text after the prompt, which itself is `prompt_ids`.

        Args:
            token_ids: of the whole text in the source's vocabulary; those of the last call and more.
            num_prompt_tokens: how many of them are the prompt.
        """
        if not self.prompt_ids:
            prompt = self._decoder.push(token_ids[:num_prompt_tokens])
            self.prompt_ids = self._tokenizer.encode(prompt) or [self._tokenizer.eos_token_id]
            self._num_read = num_prompt_tokens
        self._unsettled += self._decoder.push(token_ids[self._num_read :])
        self._num_read = len(token_ids)
        self._settle()
        return self._settled_ids + self._tokenizer.encode(self._unsettled)

    def _settle(self) -> None:
        """Fix the ids of all but the last words."""
        places = [match.start() for match in _WORD_BOUNDARY.finditer(self._unsettled)]
        place = places[-2] if len(places) > 1 else 0
        if not place and len(self._unsettled) > MAX_UNSETTLED_BYTES:
            place = MAX_UNSETTLED_BYTES - len(unfinished(self._unsettled[:MAX_UNSETTLED_BYTES]))
        self._settled_ids += self._tokenizer.encode(self._unsettled[:place])
        self._unsettled = self._unsettled[place:]


def unfinished(data: bytes) -> bytes:
    """Return the bytes at the end that are the beginning of a UTF-8 character; none where the last one is whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data)
    return decoder.getstate()[0]
