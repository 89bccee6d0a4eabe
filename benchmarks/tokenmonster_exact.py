"""Claim: the compiled TokenMonster encoder gives what the slow twin gives, on millions of inputs of every kind.

Prepared text, ids and decoded bytes are compared for every vocabulary of a folder, round by round, each round with
seeds of its own; the counts are recorded after every round, so that a run that was stopped goes on with --resume.

usage: python benchmarks/tokenmonster_exact.py VOCAB_FOLDER TEXT.jsonl.zst INPUTS [--resume]
"""

from __future__ import annotations

import io
import json
import random
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import zstandard
from record import RESULTS, Claim, record

from stentor.tokenizer.probes import mixed_strings
from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder
from stentor.tokenizer.tokenmonster.encoder import Encoder
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.vocab_file import read_vocab

NAME = "tokenmonster_exact"
INPUTS_OF_A_KIND = 170
"""In one round with one vocabulary."""
TEXT_CHARACTERS = 20_000_000
CAPITALS = "ABCDWabcdw'\u2019\u0301\u0323129 \n_-\u00c9\u00df\u1e9e\u0130\u023a\u2160\u4e2d\uac01\u01c5\x7f\xbd\u2c6f"
Maker = Callable[[random.Random], bytes]


class Pair:
    """The two implementations over one vocabulary."""

    def __init__(self, path: Path) -> None:
        self.name, self.vocab = path.stem, read_vocab(path)
        self.slow, self.fast = Reference(self.vocab), Encoder(self.vocab)
        self.tokens = [record.token for record in self.vocab.records]

    def mismatches(self, texts: list[bytes]) -> int:
        """Count the texts on which the two differ, and show them."""
        count = 0
        for text, ids in zip(texts, self.fast.encode(texts, 1), strict=True):
            prepared = self.slow.prepare(text)
            expected = self.slow.tokenize(prepared)[0]
            decoder = StreamingDecoder(self.fast.arrays, self.vocab.settings.capcode)
            found = self.fast.prepare(text), ids.tolist(), decoder.push(ids) + decoder.finish()
            if found != (prepared, expected, self.slow.decode(expected)):
                print(f"{self.name} differs on {text!r}", file=sys.stderr)
                count += 1
        return count


def read_prose(path: Path) -> str:
    """Return the first documents, of about TEXT_CHARACTERS in all."""
    texts: list[str] = []
    num_characters = 0
    with path.open("rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            texts.append(json.loads(line)["text"])
            num_characters += len(texts[-1])
            if num_characters > TEXT_CHARACTERS:
                break
    return "\n".join(texts)


def read_code() -> str:
    """Return the sources of Python's own library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def slices_of(text: str) -> Maker:
    """Return a maker of stretches of a text, cut anywhere."""

    def make(source: random.Random) -> bytes:
        start = source.randrange(len(text))
        return text[start : start + source.randint(1, 160)].encode(errors="replace")

    return make


def random_unicode(source: random.Random) -> bytes:
    """Return characters of one script and its neighbours, or of all planes."""
    width = source.choice((0x80, 0x400, 0x3100, 0x20000))
    start = source.randrange(0x20, 0x20000)
    codes = (min(0x10FFFF, start + source.randrange(width)) for _ in range(source.randint(0, 40)))
    return "".join(map(chr, codes)).encode(errors="replace")


def joined_tokens(tokens: list[bytes]) -> Maker:
    """Return a maker of tokens one behind the other, as the record table spells them."""
    return lambda source: b"".join(source.choices(tokens, k=source.randint(0, 14)))


def inputs_of(tokens: list[bytes], prose: str, code: str, seed: int) -> dict[str, list[bytes]]:
    """Return the inputs of one round with one vocabulary, by kind."""
    source = random.Random(seed)
    makers: dict[str, Maker] = {
        "prose": slices_of(prose),
        "code": slices_of(code),
        "random Unicode": random_unicode,
        "runs of capitals": lambda s: "".join(s.choices(CAPITALS, k=s.randint(0, 40))).encode(),
        "random bytes": lambda s: s.randbytes(s.randint(0, 80)),
        "joined tokens": joined_tokens(tokens),
    }
    made = {kind: [make(source) for _ in range(INPUTS_OF_A_KIND)] for kind, make in makers.items()}
    made["mixtures"] = [text.encode() for text in mixed_strings(INPUTS_OF_A_KIND, seed)]
    return made


def recorded(counts: dict[str, Counter[str]], rounds: int, mismatches: int, seconds: float) -> Path:
    """Write what was compared so far."""
    total = sum(map(Counter.total, counts.values()))
    kinds = sum(counts.values(), Counter[str]())
    claims = [
        Claim(what="inputs compared with the slow twin", value=total, unit="", better="higher", target=2e6),
        Claim(what="inputs on which they differ", value=mismatches, unit="", better="lower", target=0),
        Claim(what="vocabularies compared", value=len(counts), unit="", better="higher"),
    ]
    details = {
        "rounds": rounds,
        "seconds": round(seconds),
        "compared": "prepared text, ids, decoded bytes",
        "inputs_by_kind": dict(kinds),
        "inputs_by_vocabulary": {name: count.total() for name, count in counts.items()},
    }
    return record(NAME, claims, details)


def main() -> None:
    """Compare round after round until as many inputs as wanted were seen."""
    folder, corpus, wanted = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    pairs = [Pair(path) for path in sorted(folder.glob("*.vocab"))]
    prose, code = read_prose(corpus), read_code()
    counts = {pair.name: Counter[str]() for pair in pairs}
    rounds = mismatches = 0
    seconds = 0.0
    if "--resume" in sys.argv:
        before = json.loads((RESULTS / f"{NAME}.json").read_text())
        rounds, seconds = before["details"]["rounds"], before["details"]["seconds"]
        mismatches = int(before["claims"][1]["value"])
        for name in counts:
            counts[name].update(dict.fromkeys(before["details"]["inputs_by_kind"], rounds * INPUTS_OF_A_KIND))
    while sum(map(Counter.total, counts.values())) < wanted:
        started = time.monotonic()
        for index, pair in enumerate(pairs):
            made = inputs_of(pair.tokens, prose, code, seed=1000 * rounds + index)
            mismatches += pair.mismatches([text for texts in made.values() for text in texts])
            counts[pair.name].update({kind: len(texts) for kind, texts in made.items()})
        rounds += 1
        seconds += time.monotonic() - started
        recorded(counts, rounds, mismatches, seconds)
    print((RESULTS / f"{NAME}.json").read_text())
    sys.exit(1 if mismatches else 0)


if __name__ == "__main__":
    main()
