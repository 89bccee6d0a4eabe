"""Which draft, and by which method: what a user asks for, made ready for one target and one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stentor.errors import UserError, nearest_name
from stentor.runtime.sampling import Sampling
from stentor.runtime.speculative.decoding import Draft
from stentor.runtime.speculative.length import MAX_STEPS, DraftLength
from stentor.runtime.speculative.lookup import LookupDraft
from stentor.runtime.speculative.text_draft import TextDraft
from stentor.runtime.speculative.token_draft import TokenDraft
from stentor.runtime.speculative.vocabularies import is_same_vocabulary, shared_tokens
from stentor.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stentor.runtime.engine import LanguageModel

LOOKUP = "lookup"
METHODS = ("auto", "tokens", "intersection", "text", LOOKUP)
NEARLY_ALL = 0.9
"""Of the draft's tokens: the target must know so many of them for its likeliest one to be among these."""


class Choice(NamedTuple):
    """A method, and why it was chosen."""

    method: str
    reason: str


class Drafting:
    """A draft for texts of one target; what one text taught about the draft's length serves the next.

    Args:
        draft: another model, or `lookup`, which takes what came after the same tokens before.
        method: `tokens` draws tokens of the vocabulary that both have; `intersection` those that two vocabularies
            share; `text` lets the draft write in its own; `auto` takes the one that pays.
        num_tokens: draft steps of each round; None adapts them to what is seen. Where `tokens` or `intersection` draw,
            the same seed gives the same text again only with a number.

    Attributes:
        length: of the rounds to come.

    Raises:
        UserError: there is no such method, or it does not go with this draft.
    """

    def __init__(self, draft: LanguageModel | str, *, method: str = "auto", num_tokens: int | None = None) -> None:
        if method not in METHODS:
            raise UserError(f"there is no draft method {method!r}", fix=nearest_name(method, METHODS))
        if isinstance(draft, str) and draft != LOOKUP:
            raise UserError(f"the draft is {draft!r}", fix=f"pass a loaded model, or {LOOKUP!r}")
        if (draft == LOOKUP) != (method == LOOKUP) and method != "auto":
            raise UserError(
                f"the method {method} does not go with {'a lookup' if draft == LOOKUP else 'a model'}",
                fix="leave the method to auto",
            )
        if num_tokens is not None and not 1 <= num_tokens <= MAX_STEPS:
            raise UserError(f"{num_tokens} tokens cannot be drafted at a time", fix=f"use 1 to {MAX_STEPS}")
        self._draft, self._method = draft, method
        self.length = DraftLength(num_tokens)

    def choose(self, target: Tokenizer, settings: Sampling) -> Choice:
        """Return the method for a target with this vocabulary and texts with these settings.

        With two vocabularies `auto` takes what kept more guesses of small models, `docs/decisions/0010` says of which:
        the intersection wherever tokens are drawn; at temperature 0 the text, unless nearly all tokens are shared.

        Raises:
            UserError: `tokens` was asked for, and the vocabularies differ.
        """
        if isinstance(self._draft, str):
            return Choice(LOOKUP, "no model is needed for what the text repeats")
        draft = self._draft.tokenizer
        if is_same_vocabulary(target, draft):
            if self._method == "auto":
                return Choice("tokens", "draft and model have the same vocabulary")
        elif self._method in ("auto", "tokens"):
            num_shared = shared_tokens(target, draft).num_tokens
            shared = f"the model knows {num_shared} of the draft's {draft.vocab_size} tokens"
            if self._method == "tokens":
                raise UserError(f"the method tokens needs one vocabulary: {shared}", fix="use intersection or text")
            is_drawn = settings.temperature > 0 or num_shared >= NEARLY_ALL * draft.vocab_size
            return Choice("intersection" if is_drawn else "text", shared)
        return Choice(self._method, "asked for")

    def begin(self, target: LanguageModel, settings: Sampling) -> Draft:
        """Return a draft of one text."""
        if isinstance(self._draft, str):
            return LookupDraft()
        method, _ = self.choose(target.tokenizer, settings)
        network, tokenizer = self._draft.network.fresh(), self._draft.tokenizer
        if method == "text":
            return TextDraft(network, tokenizer, target.tokenizer, sampling=settings)
        return TokenDraft(network, tokenizer, target.tokenizer, vocab_size=target.network.config.vocab_size)
