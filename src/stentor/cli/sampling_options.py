"""The options of commands that draw tokens, one for each field of `Sampling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stentor.errors import UsageError, UserError

if TYPE_CHECKING:
    from stentor.tokenizer import Tokenizer

TemperatureOption = Annotated[
    float, typer.Option(help="Below 1 prefers likely tokens, above 1 others; 0 always takes the likeliest.")
]
TopKOption = Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0 keeps all.")]
TopPOption = Annotated[float, typer.Option(help="Keep the likeliest tokens of this probability together; 1 keeps all.")]
MinPOption = Annotated[float, typer.Option(help="Keep tokens this likely relative to the likeliest; 0 keeps all.")]
TypicalPOption = Annotated[
    float,
    typer.Option(help="Keep the tokens of the most expected surprise, of this probability together; 1 keeps all."),
]
RepetitionPenaltyOption = Annotated[
    float, typer.Option(help="Above 1 makes tokens of prompt and output less likely; 1 is none.")
]
PresencePenaltyOption = Annotated[
    float, typer.Option(help="Taken from the logit of each token of the output; 0 is none.")
]
FrequencyPenaltyOption = Annotated[
    float, typer.Option(help="Taken from it once for each time it is in the output; 0 is none.")
]
LogitBiasOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TOKEN=BIAS",
        help="Add to the logit of a token, given by its id or its text; -inf forbids it; may be repeated.",
    ),
]
MinNewTokensOption = Annotated[int, typer.Option(help="EOS is not drawn before so many tokens.")]
IgnoreEosFlag = Annotated[bool, typer.Option("--ignore-eos", help="Never draw EOS.")]


def biases_of(options: Sequence[str], tokenizer: Tokenizer) -> dict[int, float]:
    """Return the biases by token id.

    Args:
        options: each `TOKEN=BIAS`, where digits are an id and all else is a text that the tokenizer makes one token.
        tokenizer: of the model.

    Raises:
        UsageError: an option is not of this form.
        UserError: a text is several tokens, or none.
    """
    biases = {}
    for option in options:
        token, _, bias = option.rpartition("=")
        try:
            value = float(bias)
        except ValueError:
            value = None
        if not token or value is None:
            raise UsageError(
                f"--logit-bias {option!r} is not TOKEN=BIAS", fix="give a token's id or text and a number, as 17=-2.5"
            )
        biases[_id_of(token, tokenizer)] = value
    return biases


def _id_of(token: str, tokenizer: Tokenizer) -> int:
    if token.isascii() and token.isdigit():
        return int(token)
    token_ids = tokenizer.encode(token)
    if len(token_ids) != 1:
        raise UserError(
            f"--logit-bias wants one token, and {token!r} is {len(token_ids)}: {token_ids}",
            fix="give the ids of the tokens you mean",
        )
    return token_ids[0]
