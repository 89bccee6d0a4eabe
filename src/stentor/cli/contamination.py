"""stentor contamination: what an evaluation text shares with a training text."""

from __future__ import annotations

from typing import Annotated

import typer

from stentor.cli.engine_options import CacheDtypeOption, DeviceOption, DtypeOption, ThreadsOption, load_model
from stentor.cli.output import JsonFlag, answer, table
from stentor.cli.progress import meter, show_documents, show_share

_SHOWN = 5


def contamination(
    text: Annotated[str, typer.Argument(help="The evaluation text: a file, folder, glob or any other source.")],
    training: Annotated[str, typer.Argument(help="The training text, such as 'data/train-*.jsonl.zst'.")],
    model: Annotated[
        str | None, typer.Option(help="Also measure this model on the documents with overlap and on those without.")
    ] = None,
    dtype: DtypeOption = None,
    cache_dtype: CacheDtypeOption = "float32",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_output: JsonFlag = False,
) -> None:
    """Find the documents of a text that share 13 words in a row with a training text.

    Example: stentor contamination held-out.jsonl.zst 'data/train-*.jsonl.zst' --model runs/tiny
    """
    from stentor.evaluate import contamination as stage
    from stentor.evaluate.overlap import NORMALISATION, NUM_WORDS
    from stentor.runtime.open import exact_dtype
    from stentor.text.sources import open_source, read_texts

    training_texts = read_texts(training)
    documents = [(document.id, document.text) for document in open_source(text)]
    language_model = None
    if model is not None:
        dtype = dtype or exact_dtype(model)
        language_model = load_model(model, dtype=dtype, cache_dtype=cache_dtype, num_threads=threads, device=device)
    with meter("looking") as shown:
        found = stage.contamination(
            documents,
            training_texts,
            model=language_model,
            on_training=lambda num_documents, num_bytes: show_documents(shown, num_documents, num_bytes),
            on_evaluation=lambda done, whole: show_share(shown, done, whole),
        )
    value = {"text": text, "training": training, "model": None if model is None else model, **found.to_dict()}
    above = value["documents_above"]
    rows: dict[str, object] = {
        "compared": f"{NUM_WORDS} words in a row: {NORMALISATION}",
        "training text": f"{found.num_training_documents:,} documents, {found.num_training_bytes:,} bytes",
        "documents": f"{value['num_documents']:,}, of which {value['num_overlapping_documents']:,} overlap "
        f"({above['0.1']:,} with more than 10% of their 13-grams, {above['0.5']:,} with more than half); "
        f"{value['num_short_documents']:,} are too short to tell",
        "13-grams": f"{value['num_ngrams']:,}, of which {value['num_found_ngrams']:,} are in the training text",
    }
    for name, loss in (found.losses or {}).items():
        bits = "-" if loss.bits_per_byte is None else f"{loss.bits_per_byte:.4f}"
        rows[f"bits per byte, {name}"] = f"{bits} ({loss.num_documents:,} documents, {loss.num_bytes:,} bytes)"
    ranked = sorted(zip(found.overlaps, found.names, strict=True), key=lambda pair: -pair[0].share)
    rows |= {f"  {name}": f"{overlap.share:.1%}" for overlap, name in ranked[:_SHOWN] if not overlap.is_clean}
    answer(table(rows), value, as_json=json_output)
