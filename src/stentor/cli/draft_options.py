"""The options of speculative decoding: which draft, by which method, how many tokens at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stentor.errors import UsageError

if TYPE_CHECKING:
    from stentor.runtime.speculative.decoding import DraftStats
    from stentor.runtime.speculative.drafting import Drafting

DraftOption = Annotated[
    str | None, typer.Option(help="A smaller model that guesses tokens, for speed alone; or lookup, which needs none.")
]
DraftMethodOption = Annotated[
    str, typer.Option(help="tokens, intersection, text or lookup; auto takes the one that suits the vocabularies.")
]
DraftTokensOption = Annotated[
    int | None, typer.Option(help="Guessed at a time; as many as pay where no number is given.")
]


def drafting_of(draft: str | None, method: str, num_tokens: int | None, **engine: Any) -> Drafting | None:
    """Return the draft that the options ask for, loaded; None without one.

    Args:
        draft: --draft.
        method: --draft-method.
        num_tokens: --draft-tokens.
        **engine: how a model is loaded, as for `stentor.load`.

    Raises:
        UsageError: there are settings for a draft, and no draft.
        UserError: they do not go together, or there is no such model.
    """
    from stentor.runtime.engine import load
    from stentor.runtime.speculative.drafting import LOOKUP, Drafting

    if draft is None and method == LOOKUP:
        draft = LOOKUP
    if draft is None:
        if method != "auto" or num_tokens is not None:
            raise UsageError("there are settings for a draft, and no draft", fix="name one with --draft")
        return None
    if draft == LOOKUP:
        return Drafting(draft, method=method, num_tokens=num_tokens)
    # On one thread: a draft is small, and its threads would look for work while the model's have it.
    engine = {**engine, "num_threads": engine.get("num_threads") or 1}
    return Drafting(load(draft, **engine), method=method, num_tokens=num_tokens)


def draft_line(stats: DraftStats) -> str:
    """Return in one line how a draft did, and why by this method."""
    return (
        f"draft by {stats.method} ({stats.reason}): {stats.acceptance_rate:.0%} of the judged tokens kept, "
        f"{stats.tokens_per_pass:.2f} tokens a pass of the model, {stats.mean_length:.1f} proposed to each"
    )


def draft_as_json(stats: DraftStats) -> dict[str, object]:
    """Return what a draft did, rates included."""
    from dataclasses import asdict

    rates = {name: getattr(stats, name) for name in ("acceptance_rate", "tokens_per_pass", "mean_length")}
    return {**asdict(stats), **rates}
