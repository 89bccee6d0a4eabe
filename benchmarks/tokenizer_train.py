"""Claim: a vocabulary of 8,000 tokens is learned from 100 MB in minutes, and packs text better than a published one.

usage: python benchmarks/tokenizer_train.py VOCAB.vocab VALIDATION TRAINING... [--thorough] [--also VOCAB.vocab]...

VOCAB is a published vocabulary; one of its size, mode and capcode level is learned and timed. VALIDATION and TRAINING
are sources of text. One for each vocabulary of --also is learned from less text (--also-mb), for its bytes per token.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from record import Claim, record

from stentor.text.sources import read_texts
from stentor.tokenizer.base import Tokenizer
from stentor.tokenizer.measure import measure
from stentor.tokenizer.tokenmonster.load import load_tokenmonster
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.training.candidates import find_candidates
from stentor.tokenizer.tokenmonster.training.settings import TRAINED_MODES, TrainingSettings
from stentor.tokenizer.tokenmonster.training.text import prepare_texts
from stentor.tokenizer.tokenmonster.training.train import train_tokenmonster

EXTRACTION_TARGET_SECONDS, DISTILLATION_TARGET_SECONDS = 300.0, 900.0


class Clock:
    """Seconds on the wall and of all cores since it was made."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._wall, self._process = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._process


def read_up_to(sources: list[str], num_bytes: float) -> Iterator[str]:
    """Yield texts until they hold this many bytes."""
    seen = 0
    for source in sources:
        for text in read_texts(source):
            if seen >= num_bytes:
                return
            seen += len(text.encode())
            yield text


def settings_like(published: TokenMonsterTokenizer, *, is_fast: bool) -> TrainingSettings:
    file = published.vocab
    mode = TRAINED_MODES[file.settings.mode]
    return TrainingSettings(vocab_size=file.end_id, mode=mode, capcode=file.settings.capcode, is_fast=is_fast)


def packing(trained: Tokenizer, published: Tokenizer, validation: str, label: str, peer: str) -> Claim:
    """Compare bytes of the text as it was, before NFD and capcode, for each token."""
    ours, theirs = (measure(tokenizer, read_texts(validation)).bytes_per_token for tokenizer in (trained, published))
    what = f"bytes per token on {Path(validation).name}, {label}"
    return Claim(what=what, value=ours, unit="bytes", better="higher", target=theirs, peer=peer, peer_value=theirs)


def also(options: argparse.Namespace, vocab: Path) -> Claim:
    """Learn from less text and compare."""
    published = load_tokenmonster(vocab)
    settings = settings_like(published, is_fast=True)
    texts = [*read_up_to(options.training, options.also_mb * 1e6)]
    label = f"{settings.vocab_size} tokens, {settings.mode}, capcode {settings.capcode}, fast, {options.also_mb:g} MB"
    return packing(train_tokenmonster(texts, settings), published, options.validation, label, vocab.stem)


def compile_kernels(settings: TrainingSettings) -> None:
    """Run everything once on a little text, so that compiling is not timed."""
    text = "".join(chr(97 + (i * i) % 26) + (" " if i % 7 == 0 else "") for i in range(30_000))
    train_tokenmonster([text], TrainingSettings(vocab_size=300, mode=settings.mode, capcode=settings.capcode))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocab", type=Path)
    parser.add_argument("validation")
    parser.add_argument("training", nargs="+")
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--also", action="append", type=Path, default=[])
    parser.add_argument("--also-mb", type=float, default=20.0)
    return parser.parse_args()


def main() -> None:
    """Train beside the published vocabulary, and record what it took and what it gives."""
    options = parse()
    published = load_tokenmonster(options.vocab)
    file, settings = published.vocab, settings_like(published, is_fast=not options.thorough)
    compile_kernels(settings)
    texts = [*read_up_to(options.training, float("inf"))]
    workers = os.cpu_count() or 1
    print(f"load before the run: {os.getloadavg()}", file=sys.stderr)
    clock = Clock()
    prepared = prepare_texts(texts, capcode=settings.capcode, num_workers=workers)
    preparing, _ = clock.read()
    clock.restart()
    enough = max(2, prepared.data.size // (1_000_000 if settings.is_fast else 10_000_000))
    rules: dict[str, Any] = {"mode": file.settings.mode, "capcode": settings.capcode, "min_occurrences": enough}
    num_candidates = find_candidates(prepared, **rules, num_workers=workers).starts.size
    extraction, extraction_cpu = clock.read()
    num_bytes = prepared.num_bytes
    del prepared
    clock.restart()
    trained = train_tokenmonster(texts, settings, num_workers=workers, say=lambda what, _: print(what, file=sys.stderr))
    total, total_cpu = clock.read()
    print(f"load after the run: {os.getloadavg()}", file=sys.stderr)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    effort = "thorough" if options.thorough else "fast"
    label = (
        f"{settings.vocab_size} tokens, {settings.mode}, capcode {settings.capcode}, {effort}, {num_bytes / 1e6:.1f} MB"
    )
    seconds: dict[str, Any] = {"unit": "s", "better": "lower"}
    target = None if options.thorough else DISTILLATION_TARGET_SECONDS
    claims = [
        Claim(what=f"find {num_candidates:,} candidates in {num_bytes / 1e6:.1f} MB", value=extraction,
              target=EXTRACTION_TARGET_SECONDS, **seconds),
        Claim(what="find candidates, seconds of all cores", value=extraction_cpu, **seconds),
        Claim(what=f"distil to {label}", value=total - preparing - extraction, target=target, **seconds),
        Claim(what="train, all stages, seconds of all cores", value=total_cpu, **seconds),
        Claim(what="peak memory", value=peak_gb, unit="GB", better="lower", target=8.0),
        packing(trained, published, options.validation, label, options.vocab.stem),
        *(also(options, vocab) for vocab in options.also),
    ]  # fmt: skip
    name = "tokenizer_train" + ("_thorough" if options.thorough else "")
    print(record(name, claims).read_text())


if __name__ == "__main__":
    main()
