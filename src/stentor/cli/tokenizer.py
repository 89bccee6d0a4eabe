"""stentor tokenizer: learn a vocabulary, turn text into ids and back, compare vocabularies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stentor.cli.output import ForceFlag, JsonFlag, answer, put, read_stdin, short_names, table
from stentor.cli.progress import meter, show_documents

if TYPE_CHECKING:
    from stentor.tokenizer import Tokenizer

app = typer.Typer(help="Learn a vocabulary, turn text into ids and back, compare vocabularies.", no_args_is_help=True)

TokenizerOption = Annotated[
    Path, typer.Option("--tokenizer", "-t", metavar="PATH", help="A folder with a tokenizer.json, or that file.")
]


KINDS = ("bpe", "tokenmonster", "unigram")


@app.command()
def train(
    source: Annotated[str, typer.Argument(help="Where the text is: a file, a folder, hf:NAME or builtin:docs.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    kind: Annotated[str, typer.Option(help="bpe, tokenmonster or unigram (the fewest tokens).")] = "bpe",
    vocab_size: Annotated[
        int, typer.Option(help="Tokens in all; for tokenmonster without the 3 special ones, as its names count them.")
    ] = 8000,
    fast: Annotated[
        bool, typer.Option("--fast/--thorough", help="Search less, or long. tokenmonster and unigram.")
    ] = False,
    mode: Annotated[
        str | None, typer.Option(help="What may be a token: unfiltered, clean, balanced, consistent or strict.")
    ] = None,
    capcode: Annotated[
        int | None, typer.Option(help="How capitals and missing spaces are spelt out: 0, 1 or 2. tokenmonster only.")
    ] = None,
    single_bytes: Annotated[
        str | None, typer.Option("--bytes", help="Bytes that get a token: utf8, all, ascii or extended.")
    ] = None,
    min_occurrences: Annotated[int | None, typer.Option(help="Leave out what occurs less often than this.")] = None,
    all_scripts: Annotated[bool, typer.Option("--all-scripts", help="Learn words that are not Latin, too.")] = False,
    partial_characters: Annotated[
        bool, typer.Option("--partial-characters", help="Let tokens begin and end within a character.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides which swaps the search tries.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Threads; every core without it.")] = None,
    force: ForceFlag = False,
    json_output: JsonFlag = False,
) -> None:
    """Learn a vocabulary from the text of SOURCE, as it stands there.

    Example: stentor tokenizer train builtin:docs my-tokenizer --vocab-size 2048
    """
    from stentor.artifacts import refuse_existing

    monster = {
        "mode": mode,
        "capcode": capcode,
        "single_bytes": single_bytes,
        "min_occurrences": min_occurrences,
        "only_latin": False if all_scripts else None,
        "only_valid": False if partial_characters else None,
    }
    chosen = {name: value for name, value in monster.items() if value is not None}
    _check_options(kind, chosen, workers)
    refuse_existing(out, replace=force, kind="tokenizer")
    search = {"vocab_size": vocab_size, "is_fast": fast, "seed": seed}
    tokenizer = _train(kind, source, out, {**search, **chosen}, workers)
    tokenizer.save(out, replace=force)
    value = {"tokenizer": str(out), "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    answer(table({"tokenizer": out, "tokens": f"{tokenizer.vocab_size:,}"}), value, as_json=json_output)


def _check_options(kind: str, chosen: dict[str, Any], workers: int | None) -> None:
    from stentor.errors import UsageError, nearest_name

    if kind not in KINDS:
        raise UsageError(f"there is no kind of tokenizer {kind!r}", fix=nearest_name(kind, KINDS))
    if chosen and kind != "tokenmonster":
        names = {"single_bytes": "--bytes", "only_latin": "--all-scripts", "only_valid": "--partial-characters"}
        name = next(iter(chosen))
        option = names.get(name, f"--{name.replace('_', '-')}")
        raise UsageError(f"{option} is for --kind tokenmonster only", fix=f"leave it out, or change --kind {kind}")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers cannot work", fix="pass --workers 1 or more")


def _train(kind: str, source: str, out: Path, options: dict[str, Any], workers: int | None) -> Tokenizer:
    """Train a tokenizer of a kind; what a search has found is kept beside `out` until it ends."""
    texts = _watched_texts(source, "reading text" if kind != "bpe" else "learning a vocabulary")
    if kind == "bpe":
        from stentor.tokenizer.bpe import train_bpe

        return train_bpe(texts, vocab_size=options["vocab_size"])
    from stentor.tokenizer.tokenmonster.training.settings import TrainingSettings
    from stentor.tokenizer.tokenmonster.training.train import train_tokenmonster
    from stentor.tokenizer.unigram import train_unigram

    with meter("learning a vocabulary") as shown:

        def say(detail: str, share: float | None) -> None:
            shown.show(detail, share=share)

        place = out.with_name(f".{out.name}.training")
        if kind == "unigram":
            return train_unigram(texts, **options, state_dir=place, num_workers=workers, say=say)
        return train_tokenmonster(texts, TrainingSettings(**options), state_dir=place, num_workers=workers, say=say)


@app.command()
def encode(
    tokenizer: TokenizerOption,
    textfile: Annotated[Path | None, typer.Argument(help="The text; without one, stdin.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Print the ids of a text; any bytes are kept exactly.

    Example: echo hello | stentor tokenizer encode -t my-tokenizer
    """
    from stentor.tokenizer import Tokenizer

    data = _read(textfile)
    ids = Tokenizer.load(tokenizer).encode(data)
    value = {"token_ids": ids, "num_tokens": len(ids), "num_bytes": len(data)}
    answer(" ".join(map(str, ids)), value, as_json=json_output)


@app.command()
def decode(
    tokenizer: TokenizerOption,
    idfile: Annotated[Path | None, typer.Argument(help="Ids between spaces; without one, stdin.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Print the text of ids, byte for byte, with no line end of its own.

    Example: echo hello | stentor tokenizer encode -t my-tokenizer | stentor tokenizer decode -t my-tokenizer
    """
    from stentor.tokenizer import Tokenizer

    loaded = Tokenizer.load(tokenizer)
    ids = _parse_ids(_read(idfile))
    if json_output:
        answer("", {"text": loaded.decode(ids), "num_tokens": len(ids)}, as_json=True)
    else:
        put(loaded.decode_bytes(ids))


@app.command()
def compare(
    tokenizers: Annotated[
        list[Path],
        typer.Argument(help="Folders with a tokenizer, tokenizer.json or .vocab files, or tokenmonster:NAME."),
    ],
    text: Annotated[str, typer.Option(metavar="SPEC", help="The text to measure on: a source, as for train.")],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, into a .png or .svg.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what each tokenizer makes of the same text: what a token carries, what it costs, what is lost.

    Example: stentor tokenizer compare my-tokenizer tokenmonster:english-32000-balanced-v1 --text builtin:docs
    """
    from stentor.cli.comparison import comparison_table, comparison_value
    from stentor.report.tokenizers import plot_format, write_comparison
    from stentor.tokenizer import Tokenizer
    from stentor.tokenizer.compare import compare as compare_tokenizers

    if plot is not None:
        plot_format(plot)  # a wrong name is refused before the work
    names = short_names([str(path) for path in tokenizers])
    loaded = {name: Tokenizer.load(path) for name, path in zip(names, tokenizers, strict=True)}
    comparison = compare_tokenizers(loaded, _watched_texts(text, "comparing tokenizers"))
    if plot is not None:
        write_comparison(comparison, plot)
    value = comparison_value(comparison, text, [str(path) for path in tokenizers])
    answer(comparison_table(comparison), value, as_json=json_output)


def _watched_texts(source: str, label: str) -> Iterator[str]:
    """Yield the texts of a source and show on stderr how far it is; a mistake in its name is refused at once."""
    from stentor.text.sources import open_source

    documents = open_source(source)

    def texts() -> Iterator[str]:
        num_bytes = 0
        with meter(label) as shown:
            for count, document in enumerate(documents, start=1):
                num_bytes += document.num_bytes
                show_documents(shown, count, num_bytes)
                yield document.text

    return texts()


def _read(file: Path | None) -> bytes:
    from stentor.errors import UserError

    if file is None:
        return read_stdin()
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})", fix="check the path") from None


def _parse_ids(data: bytes) -> list[int]:
    from stentor.errors import UserError

    ids: list[int] = []
    for word in data.split():
        if not word.isdigit() or len(word) > 18:
            shown = ascii(word[:40].decode(errors="replace"))
            raise UserError(f"{shown} is no token id", fix="give whole numbers between spaces, as encode prints them")
        ids.append(int(word))
    return ids
