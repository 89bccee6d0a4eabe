"""Claim: all of BLiMP, 67 paradigms of 1,000 pairs, takes a model of 12M parameters less than five minutes on 2 cores.

usage: python benchmarks/blimp_speed.py MODEL [--pairs N]     (N: of each paradigm, where BLiMP has 1,000)

The pairs are made from templates, in BLiMP's format and with sentences about as long (7.9 words where BLiMP has 7 to 8,
and a common beginning in most), for the speed alone: what is likelier in them says nothing. Beside it stands the same
with every sentence read whole, one after the other as `LanguageModel.score` reads them, on a sample. The times are
those of scoring; a first use compiles the engine, which `load` waits for.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from record import Claim, record

from stentor.artifacts import write_file
from stentor.evaluate.blimp import Pair, blimp, read_pairs
from stentor.runtime.engine import LanguageModel, load

NUM_PARADIGMS, NUM_PAIRS = 67, 1000
LIMIT_SECONDS = 300
SAMPLE = 500
WORDS = {
    "name": "Amanda Brenda Carla Daniel Edward Florence Gregory Heather Irene Julie Kenneth Linda Martin Naomi",
    "noun": "actor banker child doctor dancer guest patient pupil senator teacher teenager waiter customer driver",
    "verb": "admires confuses describes discovers insults notices remembers scares visits watches approaches",
    "place": "museum library hospital school theater restaurant college mountain lake bank cafe",
}
TEMPLATES = (
    ("The {noun}s near that {place} {plural} some {other}s.", "The {noun}s near that {place} {verb} some {other}s."),
    ("Who has {name} known before {plural}ing this {other}?", "Who has {name} known this {other} before {plural}ing?"),
    ("{name} {verb} the {other} in every {place} herself.", "{name} {verb} the {other} in every {place} themselves."),
    ("Only {name} would ever go to this {place}.", "Even {name} would ever go to this {place}."),
)
"""They part in the middle, early, at the end, and in the first word."""
PHENOMENA = {"subject_verb_agreement": "morphology", "island_effects": "syntax", "quantifiers": "semantics"}


def pair(generator: random.Random, paradigm: int) -> list[str]:
    """Return two sentences of a paradigm."""
    words = {kind: generator.choice(text.split()) for kind, text in WORDS.items()}
    words |= {"plural": words["verb"][:-1], "other": generator.choice(WORDS["noun"].split())}
    return [template.format(**words) for template in TEMPLATES[paradigm % len(TEMPLATES)]]


def write_blimp(folder: Path, *, num_paradigms: int = NUM_PARADIGMS, num_pairs: int = NUM_PAIRS) -> None:
    """Write files as BLiMP's are, made from templates."""
    generator, phenomena = random.Random(0), list(PHENOMENA)
    for paradigm in range(num_paradigms):
        name, phenomenon = f"paradigm_{paradigm:02d}", phenomena[paradigm % len(phenomena)]
        lines = []
        for index in range(num_pairs):
            good, bad = pair(generator, paradigm)
            line = {
                "sentence_good": good,
                "sentence_bad": bad,
                "field": PHENOMENA[phenomenon],
                "linguistics_term": phenomenon,
                "UID": name,
                "simple_LM_method": True,
                "one_prefix_method": False,
                "two_prefix_method": False,
                "lexically_identical": False,
                "pair_id": index,
            }
            lines.append(json.dumps(line))
        write_file(folder / f"{name}.jsonl", "\n".join(lines) + "\n")


def one_by_one(model: LanguageModel, pairs: list[Pair]) -> Iterator[bool]:
    """Tell of each pair whether the good sentence is likelier, each sentence read whole."""
    for one in pairs:
        good, bad = (sum(model.score(sentence).log_probs) for sentence in (one.good, one.bad))
        yield good > bad


def main() -> None:
    """Measure it in both forms of the weights, and record it."""
    parser = argparse.ArgumentParser(usage="python benchmarks/blimp_speed.py MODEL [--pairs N]")
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS)
    given = parser.parse_args()
    claims, details = [], {"model": given.model, "pairs": NUM_PARADIGMS * given.pairs}
    with tempfile.TemporaryDirectory() as folder:
        write_blimp(Path(folder), num_pairs=given.pairs)
        pairs = list(read_pairs(Path(folder)))
    sample = random.Random(1).sample(pairs, SAMPLE)
    details["words in a sentence"] = statistics.fmean(len(one.good.split()) for one in sample)
    for dtype in ("float32", "int8"):
        model = load(given.model, dtype=dtype)
        start, cpu_start = time.perf_counter(), time.process_time()
        result = blimp(model, pairs)
        seconds = time.perf_counter() - start
        details[f"seconds of CPUs, {dtype}"] = time.process_time() - cpu_start
        start = time.perf_counter()
        alone = list(one_by_one(model, sample))
        slow_seconds = (time.perf_counter() - start) * len(pairs) / SAMPLE
        claims.append(
            Claim(
                what=f"BLiMP, {len(pairs):,} pairs, {dtype}",
                value=seconds,
                unit="s",
                better="lower",
                target=LIMIT_SECONDS if given.pairs == NUM_PAIRS else None,
                peer="each sentence read whole and alone, from a sample",
                peer_value=slow_seconds,
            )
        )
        details[f"accuracy of the templates, {dtype}"] = result.overall.accuracy
        counted = blimp(model, sample).paradigms.values()
        details[f"right of a sample, {dtype}"] = round(sum(found.accuracy * found.num_asked for found in counted))
        details[f"right of the sample read alone, {dtype}"] = sum(alone)
    print(record("blimp_speed", claims, details).read_text())


if __name__ == "__main__":
    main()
