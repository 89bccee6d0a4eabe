"""Claim: no damaged vocabulary crashes or hangs Stentor, takes its memory, or gives wrong ids: it is refused by rule.

Files are bent in every way that fits in a few lines: bits, cuts, splices, fields of a structure that is packed again,
and random bytes; in both forms. What is accepted must encode and decode as the slow twin does.

usage: python benchmarks/fuzz_vocab.py SAMPLE.vocab EXECUTIONS
"""

from __future__ import annotations

import faulthandler
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from record import Claim, record

from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.tokenmonster.build import build_vocab
from stentor.tokenizer.tokenmonster.decoder import StreamingDecoder
from stentor.tokenizer.tokenmonster.encoder import Encoder
from stentor.tokenizer.tokenmonster.records import Token
from stentor.tokenizer.tokenmonster.reference import Reference
from stentor.tokenizer.tokenmonster.vocab_file import (
    MAX_TOKEN_BYTES,
    NONE,
    DeletedToken,
    Settings,
    VocabFile,
    pack_vocab,
    parse_vocab,
    read_vocab,
)
from stentor.tokenizer.tokenmonster.yaml_file import read_yaml, write_yaml

YAML_SHARE, SAMPLE_SHARE = 0.06, 0.003
MAX_SECONDS, MAX_MEGABYTES, RECORD_EVERY = 120, 1000, 50_000
"""Five hundred files take well under a second each; memory is that beyond what a sound vocabulary takes."""
TEXT = "The cat's HAT, 12 o'clock: caf\u00e9 \u00c9TOILE \u4e2d\u6587 \U0001f600 iPhone\n\tend".encode()
ODD_NUMBERS = (0, 1, 2, 3, 5, 40, 41, 127, 128, 255, 256, 65535, 65536, NONE - 1, NONE, -1, 1 << 40)
ODD_VALUES = (
    "-1",
    "99999999999",
    "1e400",
    ".nan",
    "null",
    "[]",
    "{a: 1}",
    "'x'",
    "!!binary aGk=",
    "true",
    "2024-01-01",
)
ODD_VALUES += ("&a b", "*a", "!!python/object:os.system x", "0x41", "1_000", "~", '""', "utf-16", '"\\ud800"', "|\n  x")


@dataclass(slots=True)
class Tally:
    """What came of all executions."""

    executions: int = 0
    accepted: int = 0
    slowest_seconds: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)
    by_mutation: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def tiny_vocab(source: random.Random) -> VocabFile:
    """Return a sound vocabulary of a few tokens."""
    level = source.randrange(3)
    settings = Settings(
        capcode=level,
        charset=1,
        normalization=source.choice((0, 1, 1, source.randrange(256))),
        mode=source.randrange(6),
    )
    words = b"the cat in a hat end 12 's , : caf\xcc\x81 o\xe2\x80\x99 \xe4\xb8\xad \xff \x00".split(b" ")
    tokens = {source.choice((b"", b" ")) + source.choice(words) + source.choice((b"", b" ", b"s")) for _ in range(9)}
    tokens |= {bytes([byte]) for byte in source.sample(range(256), source.randint(0, 20))} | {settings.delete_marker}
    ids = source.sample(range(len(tokens) + 3), len(tokens))
    entries = [
        Token(token, token_id, source.random(), source.random() < 0.1)
        for token, token_id in zip(sorted(tokens - {b""}), ids, strict=False)
    ]
    deleted = [DeletedToken(b"gone", source.choice((NONE, 3)), 0.5)] * source.randint(0, 1)
    unk_id = source.choice((NONE, len(tokens) + 3))
    return build_vocab(entries, settings, unk_id=unk_id, deleted=deleted)


def flipped(data: bytes, source: random.Random) -> bytes:
    """Return data with a few bits turned over, more often in the header."""
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 8))):
        out[source.randrange(min(len(out), source.choice((24, len(out)))))] ^= 1 << source.randrange(8)
    return bytes(out)


def cut(data: bytes, source: random.Random) -> bytes:
    """Return the beginning, or data without a piece."""
    start, end = sorted(source.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + (b"" if source.random() < 0.5 else data[end:])


def longer(data: bytes, source: random.Random) -> bytes:
    """Return data with random bytes or a piece of itself put somewhere."""
    place, start = source.randrange(len(data) + 1), source.randrange(len(data))
    piece = source.choice((source.randbytes(source.randint(1, 40)), data[start : start + source.randint(1, 80)]))
    return data[:place] + piece + data[place:]


def spliced(data: bytes, source: random.Random) -> bytes:
    """Return the beginning of data and the end of another vocabulary."""
    other = pack_vocab(tiny_vocab(source))
    return data[: source.randrange(len(data))] + other[source.randrange(len(other)) :]


def with_odd_header(data: bytes, source: random.Random) -> bytes:
    """Return data with a field of the header set to an odd number."""
    place, width = source.choice([(i, 1) for i in (0, 1, 2, 3, 4, 5, 23)] + [(i, 3) for i in (8, 11, 14, 17, 20)])
    number = source.choice(ODD_NUMBERS) & ((1 << 8 * width) - 1)
    return data[:place] + number.to_bytes(width, "little") + data[place + width :]


def random_file(data: bytes, source: random.Random) -> bytes:
    """Return random bytes, perhaps behind a sound header."""
    return data[: source.choice((0, 8, 24))] + source.randbytes(source.choice((0, 10, 300, 3000)))


def restructured(vocab: VocabFile, source: random.Random) -> bytes:
    """Return a vocabulary packed again after one or two of its fields were changed."""
    records = list(vocab.records)
    for _ in range(source.randint(1, 2)):
        index = source.randrange(len(records))
        chosen, number = records[index], source.choice(ODD_NUMBERS) & NONE
        changes: list[dict[str, object]] = [
            {"token": source.choice((b"", chosen.token + b"x", source.randbytes(source.randint(1, 200))))},
            {"token": records[source.randrange(len(records))].token},
            {"flag": source.randrange(256)},
            {"num_words": source.randrange(256)},
            {"alt1": source.choice((number, source.randrange(len(records))))},
            {"alt2": source.choice((number, source.randrange(len(records))))},
            {"id": source.choice((number, source.randrange(len(records) + 2)))},
            {"score": source.choice((-1.0, -0.5, 0.0, 1.0, float("nan"), float("inf"), 1e-40))},
        ]
        records[index] = chosen._replace(**source.choice(changes))
    if source.random() < 0.3:
        records.sort(key=lambda record: (len(record.token), record.token))
    if source.random() < 0.2:
        records.pop(source.randrange(len(records)))
    numbers = {name: source.choice(ODD_NUMBERS) & NONE for name in ("unk_id", "num_ids", "end_id", "delete_id")}
    name = source.choice([*numbers, ""])
    return pack_vocab(replace(vocab, records=tuple(records), **({name: numbers[name]} if name else {})))


def bent_yaml(text: str, source: random.Random) -> str:
    """Return the YAML form with lines and values changed."""
    lines = text.split("\n")
    for _ in range(source.randint(1, 3)):
        index = source.randrange(len(lines))
        key, colon, _ = lines[index].partition(": ")
        other = source.choice(lines)
        deep = "[" * source.choice((1, 50, 3000))
        hexed = f'    - token: "TokenMonsterHexEncode{{{source.randbytes(source.randint(0, 50)).hex()}}}"'
        choices = [key + colon + source.choice(ODD_VALUES), "", other, lines[index] + "\n" + other, deep, hexed]
        choices += [lines[index][: source.randrange(1 + len(lines[index]))], "reset-token-ids: true", "unk: true"]
        choices += ["".join(map(chr, source.choices(range(1, 0x3000), k=20))), f"capcode: {source.randrange(4)}"]
        lines[index] = source.choice(choices)
    return "\n".join(lines)


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped bits": flipped,
    "cut": cut,
    "made longer": longer,
    "spliced": spliced,
    "odd header": with_odd_header,
    "random bytes": random_file,
}


class Fuzzer:
    """Makes files from a seed, and counts what comes of them."""

    def __init__(self, sample: VocabFile, seed: int, folder: Path) -> None:
        self._source = random.Random(seed)
        self._sample, self._path = sample, folder / "bent.yaml"
        self.tally = Tally()
        self._use(sample)  # compiles the kernels, which takes longer than any file may
        self._renew()

    def run(self, count: int) -> None:
        """Try so many files more."""
        for number in range(count):
            if number % 500 == 0:
                faulthandler.dump_traceback_later(
                    MAX_SECONDS, exit=True
                )  # starts anew the time of the last five hundred
                self._renew()
            started = time.perf_counter()
            self._try()
            self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.perf_counter() - started)
            self.tally.executions += 1
        faulthandler.cancel_dump_traceback_later()

    def _renew(self) -> None:
        """Make other sound vocabularies to bend."""
        self._vocabs = [tiny_vocab(self._source) for _ in range(8)]
        self._yaml = []
        for vocab in self._vocabs[:4]:
            write_yaml(self._path, vocab)
            self._yaml.append(self._path.read_text())

    def _try(self) -> None:
        source = self._source
        if source.random() < YAML_SHARE:
            self.tally.by_mutation["YAML"] += 1
            data = bent_yaml(source.choice(self._yaml), source).encode(errors="surrogatepass")
            self._path.write_bytes(data)
            self._open(lambda: read_yaml(self._path), data)
            return
        vocab = self._sample if source.random() < SAMPLE_SHARE else source.choice(self._vocabs)
        name = source.choice([*MUTATIONS, "changed fields", "changed fields"])
        self.tally.by_mutation[name] += 1
        data = restructured(vocab, source) if name == "changed fields" else MUTATIONS[name](pack_vocab(vocab), source)
        self._open(lambda: parse_vocab(data, "it"), data)

    def _open(self, open_it: Callable[[], VocabFile], data: bytes) -> None:
        try:
            vocab = open_it()
        except CorruptArtifactError as error:
            self.tally.refusals[rule_of(error.message, self._path)] += 1
            return
        except Exception as error:
            self.tally.failures.append(f"{type(error).__name__}: {error}: {data[:3000]!r}")
            return
        self.tally.accepted += 1
        try:
            self._use(vocab)
        except UserError as error:
            self.tally.refusals[rule_of(error.message, self._path)] += 1
        except Exception as error:
            self.tally.failures.append(f"accepted, then {type(error).__name__}: {error}: {data[:3000]!r}")

    def _use(self, vocab: VocabFile) -> None:
        """Check that an accepted vocabulary does what its slow twin does."""
        tokens = [record.token for record in vocab.records]
        text = b"".join(self._source.choices(tokens, k=6))[: 3 * MAX_TOKEN_BYTES] + self._source.randbytes(3)
        texts = [text, TEXT[self._source.randrange(len(TEXT)) :]]
        slow, fast = Reference(vocab), Encoder(vocab)
        for given, ids in zip(texts, fast.encode(texts, 1), strict=True):
            decoder = StreamingDecoder(fast.arrays, vocab.settings.capcode)
            decoded = decoder.push(ids) + decoder.finish()
            if ids.tolist() != slow.encode(given) or decoded != slow.decode(ids.tolist()):
                raise ValueError(f"the twins differ on {given!r}")


def rule_of(message: str, path: Path) -> str:
    """Return the rule that a refusal names, without what is particular to one file."""
    message = message.replace(str(path), "it")
    message = re.sub(r"""b?'(\\.|[^'\\])*'|b?"(\\.|[^"\\])*\"""", "X", message)
    message = re.sub(r"(?<![A-Za-z])-?\d[\d.e+-]*|\b(nan|inf|None|True)\b", "N", message)
    return re.sub(r"(is not YAML|a token is|is no vocabulary: \w+ is|has no normalization).*", r"\1 ...", message)[:90]


def peak_megabytes() -> float:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def recorded(tally: Tally, before: float, seconds: float) -> None:
    """Write what came of the executions so far."""
    claims = [
        Claim(what="damaged vocabularies tried", value=tally.executions, unit="", better="higher", target=1e6),
        Claim(
            what="crashes, hangs, ids unlike the slow twin's",
            value=len(tally.failures),
            unit="",
            better="lower",
            target=0,
        ),
        Claim(what="slowest refusal or use of one", value=tally.slowest_seconds, unit="s", better="lower"),
        Claim(what="memory taken by all of them", value=peak_megabytes() - before, unit="MB", better="lower"),
    ]
    details = {
        "refused": sum(tally.refusals.values()),
        "accepted_and_compared_with_the_slow_twin": tally.accepted,
        "seconds": round(seconds),
        "mutations": dict(tally.by_mutation.most_common()),
        "rules": dict(tally.refusals.most_common()),
    }
    record("fuzz_vocab", claims, details)


def main() -> None:
    """Try as many files as wanted, and record what came of them."""
    sample, count = read_vocab(Path(sys.argv[1])), int(sys.argv[2])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(sample, 2026, Path(folder))
        fuzzer.run(500)
        fuzzer.tally.slowest_seconds, before = 0.0, peak_megabytes()  # every kernel is compiled by now
        while fuzzer.tally.executions < count:
            fuzzer.run(min(RECORD_EVERY, count - fuzzer.tally.executions))
            recorded(fuzzer.tally, before, time.monotonic() - started)
            for failure in fuzzer.tally.failures:
                print(failure, file=sys.stderr)
            if fuzzer.tally.failures or peak_megabytes() > before + MAX_MEGABYTES:
                sys.exit(1)


if __name__ == "__main__":
    main()
