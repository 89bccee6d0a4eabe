"""A short run of the benchmark that bends vocabularies in every way it knows; the long one is recorded."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def fuzz_vocab(monkeypatch):
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not part of this copy")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz_vocab  # pyright: ignore[reportMissingImports]

    yield fuzz_vocab
    for name in ("fuzz_vocab", "record"):
        sys.modules.pop(name, None)


def test_damage_is_refused_by_rule_or_harmless(fuzz_vocab, small_vocab, tmp_path):
    fuzzer = fuzz_vocab.Fuzzer(small_vocab, 99, tmp_path)
    fuzzer.run(3000)
    tally = fuzzer.tally
    assert tally.failures == []
    assert tally.executions == 3000
    assert tally.executions == tally.accepted + tally.refusals.total()
    assert set(tally.by_mutation) == {*fuzz_vocab.MUTATIONS, "changed fields", "YAML"}
    assert 50 < tally.accepted < 1500
    assert len(tally.refusals) > 20
    assert tally.slowest_seconds < 20


def test_the_same_seed_gives_the_same_files(fuzz_vocab, small_vocab, tmp_path):
    runs = [fuzz_vocab.Fuzzer(small_vocab, 7, tmp_path) for _ in range(2)]
    for run in runs:
        run.run(200)
    assert runs[0].tally.refusals == runs[1].tally.refusals


def test_a_crash_is_seen(fuzz_vocab, small_vocab, tmp_path, monkeypatch):
    fuzzer = fuzz_vocab.Fuzzer(small_vocab, 7, tmp_path)
    monkeypatch.setattr(fuzz_vocab, "parse_vocab", lambda data, where: 1 // 0)
    fuzzer.run(20)
    assert "ZeroDivisionError" in fuzzer.tally.failures[0]


def test_rules_are_told_apart_without_their_particulars(fuzz_vocab):
    rule_of = fuzz_vocab.rule_of
    one = rule_of("it is damaged: record 7 (b'a\\'b') has flag 3, and the tokens make it 9", Path("x"))
    assert one == rule_of('it is damaged: record 12 (b"c") has flag 255, and the tokens make it 0', Path("x"))
    assert one != rule_of("it is damaged: record 7 (b'a') has alt1 3, and the tokens make it 9", Path("x"))
