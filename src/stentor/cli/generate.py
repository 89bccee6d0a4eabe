"""stentor generate: a prompt becomes its continuation."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stentor.cli.draft_options import (
    DraftMethodOption,
    DraftOption,
    DraftTokensOption,
    draft_as_json,
    draft_line,
    drafting_of,
)
from stentor.cli.engine_options import CacheDtypeOption, DeviceOption, FastDtypeOption, ThreadsOption, load_model
from stentor.cli.output import JsonFlag, answer, put, read_stdin, talk
from stentor.cli.sampling_options import (
    FrequencyPenaltyOption,
    IgnoreEosFlag,
    LogitBiasOption,
    MinNewTokensOption,
    MinPOption,
    PresencePenaltyOption,
    RepetitionPenaltyOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    TypicalPOption,
    biases_of,
)
from stentor.errors import UsageError

if TYPE_CHECKING:
    from stentor.runtime.completion import Completion
    from stentor.runtime.continuation import GenerationStats
    from stentor.runtime.engine import LanguageModel
    from stentor.tokenizer import Tokenizer

LogprobsOption = Annotated[
    int | None, typer.Option(help="With --json: ln p of each token and of so many alternatives, before all settings.")
]
BETWEEN = "\n---\n"
"""What stands between several continuations."""


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from stdin.")],
    model: Annotated[
        str,
        typer.Option(
            help="A model folder, a run folder, a .gguf or .onnx file, or a Hub id; stentor-12m ships with it."
        ),
    ] = "stentor-12m",
    max_new_tokens: Annotated[int, typer.Option(help="At most this many tokens.")] = 50,
    min_new_tokens: MinNewTokensOption = 0,
    temperature: TemperatureOption = 0.9,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.65,
    min_p: MinPOption = 0.0,
    typical_p: TypicalPOption = 1.0,
    repetition_penalty: RepetitionPenaltyOption = 1.15,
    presence_penalty: PresencePenaltyOption = 0.0,
    frequency_penalty: FrequencyPenaltyOption = 0.0,
    logit_bias: LogitBiasOption = None,
    ignore_eos: IgnoreEosFlag = False,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    n: Annotated[int, typer.Option(help="So many continuations, with --- between them.")] = 1,
    logprobs: LogprobsOption = None,
    dtype: FastDtypeOption = None,
    cache_dtype: CacheDtypeOption = "float32",
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    draft: DraftOption = None,
    draft_method: DraftMethodOption = "auto",
    draft_tokens: DraftTokensOption = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say how many tokens it took, and how long.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Continue a prompt; the text streams to stdout as it is made.

    Example: stentor generate "The history of computing began" --stats
    """
    engine = {"dtype": dtype, "cache_dtype": cache_dtype, "num_threads": threads, "device": device}
    language_model = load_model(model, **engine)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens, "temperature": temperature,
        "top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p,
        "repetition_penalty": repetition_penalty, "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty, "logit_bias": biases_of(logit_bias or (), language_model.tokenizer),
        "ignore_eos": ignore_eos, "stop": stop or (), "seed": seed,
        "draft": drafting_of(draft, draft_method, draft_tokens, **engine),
    }  # fmt: skip
    text = read_stdin().decode(errors="replace") if prompt == "-" else prompt
    asked = {"prompt": text, "model": str(language_model.origin), "settings": _settings(options, engine)}
    costs = _write(language_model, text, options, asked, n=n, logprobs=logprobs, as_json=json_output)
    if stats:
        _tell(costs)


def _settings(options: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides a continuation, as JSON holds it; a draft stands in what the continuation cost.

    A dtype of null is the one that the device has by default.
    """
    return {name: value for name, value in {**options, **engine}.items() if name != "draft"}


def _write(
    model: LanguageModel, prompt: str, options: dict[str, Any], asked: dict[str, Any], *, n: int,
    logprobs: int | None, as_json: bool,
) -> list[GenerationStats]:  # fmt: skip
    """Write the continuations, one alone as it is made; returns what each cost."""
    if logprobs is not None and not as_json:
        raise UsageError("--logprobs has no place beside plain text", fix="add --json")
    if n == 1 and not as_json:
        return [_write_stream(model, prompt, options)]
    completions = model.complete(prompt, n=n, logprobs=logprobs, **options)
    text = BETWEEN.join(completion.text for completion in completions)
    made = [_as_json(completion, model.tokenizer) for completion in completions]
    answer(text, {**asked, "completions": made}, as_json=as_json)
    return [completion.stats for completion in completions]


def _write_stream(model: LanguageModel, prompt: str, options: dict[str, Any]) -> GenerationStats:
    from stentor.runtime.continuation import GenerationStats

    cost = GenerationStats()
    for piece in model.stream(prompt, stats=cost, **options):
        put(piece)
    put("\n")
    return cost


def _tell(costs: list[GenerationStats]) -> None:
    """Say on stderr what each continuation cost."""
    for cost in costs:
        talk(
            f"{cost.num_new_tokens} tokens in {cost.prefill_seconds + cost.decode_seconds:.2f} s, "
            f"{cost.tokens_per_second:.1f} tokens/s (prompt of {cost.num_prompt_tokens}; ended by {cost.finish_reason})"
        )
        if cost.draft:
            talk(draft_line(cost.draft))


def _as_json(completion: Completion, tokenizer: Tokenizer) -> dict[str, object]:
    """Return a completion's fields; the alternatives come with their texts."""
    stats = completion.stats
    cost = {**asdict(stats), "tokens_per_second": stats.tokens_per_second}
    cost["draft"] = None if stats.draft is None else draft_as_json(stats.draft)
    value: dict[str, object] = {"text": completion.text, "token_ids": completion.token_ids, **cost}
    if completion.log_probs is not None and completion.top_alternatives is not None:
        value["log_probs"] = completion.log_probs
        value["top_alternatives"] = [
            [
                {**token._asdict(), "text": tokenizer.token_bytes(token.token_id).decode(errors="replace")}
                for token in top
            ]
            for top in completion.top_alternatives
        ]
    return value
