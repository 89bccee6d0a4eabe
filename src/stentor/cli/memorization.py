"""stentor memorization: how much of its training text a model says by heart."""

from __future__ import annotations

from typing import Annotated

import typer

from stentor.cli.engine_options import CacheDtypeOption, DeviceOption, DtypeOption, ThreadsOption, load_model
from stentor.cli.output import JsonFlag, ModelArgument, answer, table
from stentor.cli.progress import meter, show_share

_SHOWN_CHARACTERS = 300


def memorization(
    model: ModelArgument,
    training: Annotated[str, typer.Argument(help="The training text: a file, folder, glob or any other source.")],
    samples: Annotated[int, typer.Option(help="Documents to try.")] = 200,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of each that the model is given.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the draw of documents and places.")] = 0,
    dtype: DtypeOption = None,
    cache_dtype: CacheDtypeOption = "float32",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_output: JsonFlag = False,
) -> None:
    """Measure how long a model goes on with its training text word for word.

    Example: stentor memorization runs/tiny data/tiny/corpus/train.jsonl.zst
    """
    from stentor.evaluate import memorization as stage
    from stentor.runtime.open import exact_dtype
    from stentor.text.sources import open_source

    documents = ((document.id, document.text) for document in open_source(training))
    dtype = dtype or exact_dtype(model)
    language_model = load_model(model, dtype=dtype, cache_dtype=cache_dtype, num_threads=threads, device=device)
    with meter("trying") as shown:
        found = stage.memorization(
            language_model,
            documents,
            num_samples=samples,
            num_prompt_tokens=prompt_tokens,
            seed=seed,
            on_progress=lambda done, whole: show_share(shown, done, whole),
        )
    value = {
        "model": str(language_model.origin),
        "training": training,
        "dtype": dtype or "as its file",
        **found.to_dict(),
    }
    shares = ", ".join(f"{count}: {share:.1%}" for count, share in value["share_at_least"].items())
    ninth = value["quantiles"]["0.9"]
    rows: dict[str, object] = {
        "samples": f"{len(found.runs):,} of {found.num_documents:,} documents, a prompt of {prompt_tokens} tokens each"
        f" ({found.num_short_documents:,} more were too short)",
        "verbatim": f"{value['mean_tokens']:.2f} tokens on average, {ninth:.0f} or more in the longest tenth",
        "runs of at least": shares,
        "longest": f"{found.longest.num_tokens} tokens, of {found.longest.document}",
        "  which says": repr(found.longest.text[:_SHOWN_CHARACTERS]),
    }
    answer(table(rows), value, as_json=json_output)
