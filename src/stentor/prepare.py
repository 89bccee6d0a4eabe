"""Text to shards: the three data stages in a row, each kept and reused while its settings stay the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stentor.artifacts import MANIFEST_NAME, read_manifest, staged_directory
from stentor.config import Recipe, TokenizerConfig
from stentor.errors import UserError
from stentor.shards.build import Shards, build_shards, open_shards
from stentor.text.corpus import Corpus, open_corpus, prepare_corpus
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.tokenmonster.training.settings import NUM_SPECIAL_TOKENS, TrainingSettings

StageProgress = Callable[[int, int], None]
Watch = Callable[[str], AbstractContextManager[StageProgress]]
_SAY_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The three artifacts that training starts from."""

    corpus: Corpus
    tokenizer: Tokenizer
    shards: Shards


def prepare(recipe: Recipe, data_dir: Path, *, watch: Watch, replace: bool = False) -> Prepared:
    """Make, or reuse, `corpus/`, `tokenizer/` and `shards/` under one folder.

    Args:
        recipe: its `text` and `tokenizer` sections decide everything.
        data_dir: receives the three folders.
        watch: opens a display for a stage and yields its progress callback (documents, bytes).
        replace: make them again.

    Raises:
        UserError: a folder was made with other settings, or the text cannot be used.
    """
    if recipe.tokenizer.kind == "tokenmonster":
        _tokenmonster_settings(recipe.tokenizer)  # refused before any text is read
    corpus = _corpus(recipe, data_dir / "corpus", watch, replace)
    tokenizer = _tokenizer(recipe, corpus, data_dir / "tokenizer", watch, replace)
    shards = _shards(corpus, tokenizer, data_dir / "shards", watch, replace)
    return Prepared(corpus, tokenizer, shards)


def default_data_dir(recipe: Recipe) -> Path:
    """Return where a recipe's corpus, tokenizer and shards lie."""
    return Path("data") / recipe.name


def _corpus(recipe: Recipe, folder: Path, watch: Watch, replace: bool) -> Corpus:
    if _is_made(folder, {"config": asdict(recipe.text)}, replace):
        return open_corpus(folder)
    with watch("reading and cleaning text") as on_progress:
        return prepare_corpus(recipe.text, folder, replace=replace, on_progress=on_progress)


def _tokenizer(recipe: Recipe, corpus: Corpus, folder: Path, watch: Watch, replace: bool) -> Tokenizer:
    if recipe.tokenizer.path:
        return Tokenizer.load(recipe.tokenizer.path)
    made_from = {"config": asdict(recipe.tokenizer), "corpus_sha256": corpus.details["sha256"]}
    if _is_made(folder, made_from, replace):
        return Tokenizer.load(folder)
    with watch("learning a vocabulary") as on_progress:
        texts = _up_to(recipe.tokenizer.train_bytes, corpus, on_progress)
        tokenizer = _learn(recipe.tokenizer, texts, folder.with_name(f".{folder.name}.training"), watch)
        with staged_directory(folder, kind="tokenizer", replace=replace) as staging:
            for name, data in tokenizer.files().items():
                staging.write(name, data)
            staging.details.update(made_from)
    return tokenizer


def _learn(config: TokenizerConfig, texts: Iterator[str], state_dir: Path, watch: Watch) -> Tokenizer:
    """Train a tokenizer; what a long search has found is kept in `state_dir` until it ends."""
    if config.kind == "bpe":
        return train_bpe(texts, vocab_size=config.vocab_size)
    said_at = time.monotonic()

    def say(detail: str, share: float | None) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= _SAY_EVERY_SECONDS:
            said_at = time.monotonic()
            with watch(f"learning a vocabulary: {detail}"):
                pass

    if config.kind == "unigram":
        from stentor.tokenizer.unigram import train_unigram

        is_fast = not config.is_thorough
        return train_unigram(texts, vocab_size=config.vocab_size, is_fast=is_fast, state_dir=state_dir, say=say)
    from stentor.tokenizer.tokenmonster.training.train import train_tokenmonster

    return train_tokenmonster(texts, _tokenmonster_settings(config), state_dir=state_dir, say=say)


def _tokenmonster_settings(config: TokenizerConfig) -> TrainingSettings:
    return TrainingSettings(
        vocab_size=config.vocab_size - NUM_SPECIAL_TOKENS,
        mode=config.mode,
        capcode=config.capcode,
        is_fast=not config.is_thorough,
    )


def _shards(corpus: Corpus, tokenizer: Tokenizer, folder: Path, watch: Watch, replace: bool) -> Shards:
    made_from = {"corpus_sha256": corpus.details["sha256"], "tokenizer_sha256": tokenizer.sha256}
    if _is_made(folder, made_from, replace):
        return open_shards(folder)
    with watch("packing token ids") as on_progress:
        return build_shards(corpus, tokenizer, folder, replace=replace, on_progress=on_progress)


def _is_made(folder: Path, made_from: dict[str, Any], replace: bool) -> bool:
    """Whether a folder holds just this artifact; one made from anything else is refused, never overwritten."""
    if replace or not (folder / MANIFEST_NAME).exists():
        return False
    details = read_manifest(folder).details
    if all(details.get(key) == value for key, value in made_from.items()):
        return True
    raise UserError(
        f"{folder} was made with other settings", fix="pass --force to make it again, or name another --data folder"
    )


def _up_to(num_bytes: int, corpus: Corpus, on_progress: StageProgress) -> Iterator[str]:
    """Yield training texts until they hold this many bytes."""
    seen_bytes = 0
    for count, document in enumerate(corpus.documents("train"), start=1):
        if seen_bytes >= num_bytes:
            return
        seen_bytes += document.num_bytes
        on_progress(count, seen_bytes)
        yield document.text
