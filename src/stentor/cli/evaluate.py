"""stentor evaluate: a model and a text become numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from stentor.cli.engine_options import CacheDtypeOption, DeviceOption, DtypeOption, ThreadsOption, load_model
from stentor.cli.output import JsonFlag, ModelArgument, answer, round_trip, table
from stentor.cli.progress import meter, show_share


def evaluate(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(help="The text: a file, folder, glob or any other source.")],
    baselines: Annotated[
        bool, typer.Option(help="Also say what gzip, xz and a unigram model need for the same text.")
    ] = True,
    dtype: DtypeOption = "float32",
    cache_dtype: CacheDtypeOption = "float32",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_output: JsonFlag = False,
) -> None:
    """Measure a model's loss, perplexity and bits per byte on raw text.

    Example: stentor evaluate runs/tiny data/tiny/corpus/validation.jsonl.zst
    """
    from stentor.evaluate.baselines import baselines as measure_baselines
    from stentor.evaluate.text import evaluate as evaluate_texts
    from stentor.text.sources import read_texts

    language_model = load_model(model, dtype=dtype, cache_dtype=cache_dtype, num_threads=threads, device=device)
    with meter("evaluating") as shown:
        result = evaluate_texts(
            language_model, read_texts(text), on_progress=lambda done, whole: show_share(shown, done, whole)
        )
    tokenizer = language_model.tokenizer
    value = {**result.to_dict(), "model": str(language_model.origin), "vocab_size": tokenizer.vocab_size}
    rows = {
        "model": language_model.origin,
        "text": f"{result.num_bytes:,} bytes, {result.num_tokens:,} tokens "
        f"({result.num_bytes / result.num_tokens:.3f} bytes per token of a {tokenizer.vocab_size:,}-token vocabulary)",
        "round trip": round_trip(result.num_lossy_documents, result.num_lost_bytes),
        "loss": f"{result.loss_nats:.4f} nats/token",
        "perplexity": f"{result.perplexity:.2f} (only comparable with the same tokenizer)",
        "bits per byte": f"{result.bits_per_byte:.4f} (of the text as it was given)",
    }
    if baselines:
        compared = measure_baselines(read_texts(text), tokenizer)
        value |= compared.to_dict()
        rows["xz -9e"] = f"{compared.xz_bits_per_byte:.4f} bits per byte on the same text alone"
        rows["gzip -9"] = f"{compared.gzip_bits_per_byte:.4f}"
        rows["unigram"] = f"{compared.unigram_bits_per_byte:.4f} (each token by its frequency in this very text)"
    answer(table(rows), value, as_json=json_output)
