"""stentor prepare: text to tokenizer to shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stentor.cli.output import ForceFlag, JsonFlag, SetOption, answer, round_trip, size, table
from stentor.cli.progress import meter, show_documents

RecipeArgument = Annotated[str, typer.Argument(help="A published recipe by name, or a .toml file.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder for corpus, tokenizer and shards.", show_default="data/RECIPE")
]


def prepare(
    recipe: RecipeArgument,
    data: DataOption = None,
    overrides: SetOption = None,
    force: ForceFlag = False,
    json_output: JsonFlag = False,
) -> None:
    """Turn a recipe's text into a clean corpus, a tokenizer and packed shards.

    Example: stentor prepare tiny --data data/tiny
    """
    from stentor.config import Recipe
    from stentor.prepare import default_data_dir
    from stentor.prepare import prepare as prepare_data

    loaded = Recipe.load(recipe, overrides=overrides or ())
    folder = data or default_data_dir(loaded)
    prepared = prepare_data(loaded, folder, watch=watch, replace=force)
    train, held_out = prepared.shards.train, prepared.shards.validation
    losses = prepared.shards.losses["train"] + prepared.shards.losses["validation"]
    value = {
        "data": str(folder),
        "corpus_sha256": prepared.corpus.details["sha256"],
        "dropped_documents": {
            reason: dropped["num_documents"] for reason, dropped in prepared.corpus.details["tally"]["dropped"].items()
        },
        "vocab_size": prepared.tokenizer.vocab_size,
        "train_documents": train.num_documents,
        "train_tokens": train.num_tokens,
        "train_bytes": train.num_text_bytes,
        "bytes_per_token": train.num_text_bytes / train.num_tokens,
        "validation_documents": held_out.num_documents,
        "validation_tokens": held_out.num_tokens,
        "validation_bytes": held_out.num_text_bytes,
        **asdict(losses),
    }
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in value["dropped_documents"].items()) or "none"
    text = table(
        {
            "folder": folder,
            "corpus": f"sha256 {value['corpus_sha256']}",
            "training": f"{train.num_documents:,} documents, {train.num_tokens:,} tokens, {size(train.num_text_bytes)}",
            "held out": f"{held_out.num_documents:,} documents, {held_out.num_tokens:,} tokens, "
            f"{size(held_out.num_text_bytes)}",
            "dropped": dropped,
            "tokenizer": f"{prepared.tokenizer.vocab_size:,} tokens, {value['bytes_per_token']:.3f} bytes per token",
            "round trip": round_trip(losses.num_lossy_documents, losses.num_lost_bytes),
        }
    )
    answer(text, value, as_json=json_output)


@contextmanager
def watch(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a data stage's documents and bytes while it runs."""
    with meter(label) as shown:
        shown.say(label)
        yield lambda num_documents, num_bytes: show_documents(shown, num_documents, num_bytes)
