"""stentor generate: a prompt becomes its continuation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from stentor.cli.output import JsonFlag, answer, put, read_stdin, talk


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from stdin.")],
    model: Annotated[str, typer.Option(help="A model folder, a run folder, a .gguf file or a Hub id.")],
    max_new_tokens: Annotated[int, typer.Option(help="At most this many tokens.")] = 50,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.9,
    top_k: Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens of this probability together.")] = 0.65,
    min_p: Annotated[float, typer.Option(help="Keep tokens this likely relative to the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 makes tokens already seen less likely.")] = 1.15,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    stats: Annotated[bool, typer.Option("--stats", help="Say how many tokens it took, and how long.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Continue a prompt; the text streams to stdout as it is made.

    Example: stentor generate "The history of" --model runs/tiny --stats
    """
    from stentor.runtime.engine import GenerationStats, load

    cost = GenerationStats()
    pieces = load(model).stream(
        read_stdin().decode(errors="replace") if prompt == "-" else prompt,
        max_new_tokens=max_new_tokens,
        stop=stop or (),
        seed=seed,
        stats=cost,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    if json_output:
        text = "".join(pieces)
        answer(text, {"text": text, **asdict(cost), "tokens_per_second": cost.tokens_per_second}, as_json=True)
    else:
        for piece in pieces:
            put(piece)
        put("\n")
    if stats:
        talk(
            f"{cost.num_new_tokens} tokens in {cost.prefill_seconds + cost.decode_seconds:.2f} s, "
            f"{cost.tokens_per_second:.1f} tokens/s (prompt of {cost.num_prompt_tokens}; ended by {cost.finish_reason})"
        )
