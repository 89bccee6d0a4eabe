"""BLiMP: its own format, a slow twin, ties, means over paradigms, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stentor.errors import UserError
from stentor.evaluate.blimp import NUM_PARADIGMS, BlimpResult, Pair, blimp, read_pairs
from stentor.evaluate.intervals import Accuracy
from stentor.evaluate.starting import Start
from stentor.runtime.engine import LanguageModel, load

GROUPS = {"anaphor": ("anaphor_agreement", "morphology"), "island": ("island_effects", "syntax")}
WORDS = [
    "the",
    "people",
    "of",
    "this",
    "world",
    "have",
    "not",
    "been",
    "here",
    "when",
    "he",
    "was",
    "one",
    "then",
    "she",
    "said",
    "so",
]


def make_pairs(count: int = 40, seed: int = 0) -> list[Pair]:
    """Return pairs that share a beginning, or nothing, or all but the last word."""
    generator, pairs = np.random.default_rng(seed), []
    for index in range(count):
        words = generator.choice(WORDS, 6).tolist()
        other = words.copy()
        other[int(generator.integers(0, 6))] = str(generator.choice(WORDS))
        paradigm = ["anaphor_one", "anaphor_two", "island_one"][index % 3]
        pairs.append(Pair(" ".join(words), " ".join(other), paradigm, *GROUPS[paradigm.split("_")[0]]))
    return pairs


def line(pair: Pair, **more: object) -> dict[str, object]:
    return {
        "sentence_good": pair.good,
        "sentence_bad": pair.bad,
        "field": pair.field,
        "linguistics_term": pair.phenomenon,
        "UID": pair.paradigm,
        "simple_LM_method": True,
        "pair_id": 0,
        **more,
    }


def slow_right(model: LanguageModel, pair: Pair, log_probs_of, *, start_id: int, before: str = "") -> float:
    """Score both sentences whole, one token at a time."""
    good, bad = (
        sum(log_probs_of(model, [start_id], model.tokenizer.encode(before + text))) for text in (pair.good, pair.bad)
    )
    return 0.5 if pair.good == pair.bad else float(good > bad)


@pytest.mark.parametrize(("start", "space"), [("eos", False), ("bos", False), ("eos", True), ("none", False)])
def test_the_accuracy_is_that_of_the_slow_twin(model, log_probs_of, start, space):
    pairs = make_pairs(30)
    start_id = model.tokenizer.bos_token_id if start == "bos" else model.tokenizer.eos_token_id
    shares: dict[str, list[float]] = {}
    for pair in pairs:
        right = slow_right(model, pair, log_probs_of, start_id=start_id, before=" " * space)
        shares.setdefault(pair.paradigm, []).append(right)
    result = blimp(model, pairs, start=Start(start), space=space)
    expected = {name: np.mean(found) for name, found in shares.items()}
    assert {name: found.accuracy for name, found in result.paradigms.items()} == pytest.approx(expected)
    assert result.overall.accuracy == pytest.approx(np.mean(list(expected.values())))
    assert result.phenomena["anaphor_agreement"].accuracy == pytest.approx(
        np.mean([expected["anaphor_one"], expected["anaphor_two"]])
    )
    assert result.fields["syntax"].accuracy == pytest.approx(expected["island_one"])
    assert (result.start, result.space) == (start, space)


def test_paradigms_count_the_same_whatever_their_size(model):
    pairs = make_pairs(60)
    good = [pair for pair in pairs if blimp(model, [pair]).overall.accuracy == 1]
    bad = [pair for pair in pairs if blimp(model, [pair]).overall.accuracy == 0]
    chosen = [Pair(p.good, p.bad, "a", "x", "f") for p in good[:7]] + [
        Pair(p.good, p.bad, "b", "y", "f") for p in bad[:1]
    ]
    result = blimp(model, chosen)
    assert result.overall.accuracy == 0.5
    assert result.fields["f"].accuracy == 0.5
    assert (result.phenomena["x"].accuracy, result.phenomena["y"].accuracy) == (1, 0)
    assert result.paradigms["a"].num_asked == 7


def test_a_tie_counts_half(model):
    result = blimp(model, [Pair("the people", "the people", "a", "x", "f")])
    assert (result.overall.accuracy, result.overall.num_ties) == (0.5, 1)


def test_a_sentence_that_begins_the_other_is_likelier(model):
    result = blimp(model, [Pair("the people", "the people of", "a", "x", "f")])
    assert result.overall.accuracy == 1


def test_batches_and_progress(model, monkeypatch):
    pairs, seen = make_pairs(40), []
    whole = blimp(model, pairs)
    monkeypatch.setattr("stentor.evaluate.blimp._AT_ONCE", 15)
    assert blimp(model, iter(pairs), on_progress=lambda *now: seen.append(now)) == whole
    assert seen == [(15, 40), (30, 40), (40, 40)]


def test_rounded_weights_are_measured_as_they_compute(model_path, model):
    pairs = make_pairs(90)
    rounded = blimp(load(model_path, dtype="int8"), pairs)
    assert rounded.overall.accuracy == pytest.approx(blimp(model, pairs).overall.accuracy, abs=0.1)


def test_files_are_read_as_they_were_published(write_lines, tmp_path):
    pairs = make_pairs(9)
    for name in ("anaphor_one", "anaphor_two", "island_one"):
        write_lines(f"{name}.jsonl", *[line(pair) for pair in pairs if pair.paradigm == name])
    found = list(read_pairs(tmp_path))
    assert found == sorted(pairs, key=lambda pair: pair.paradigm)
    assert list(read_pairs(tmp_path / "island_one.jsonl")) == [pair for pair in pairs if pair.paradigm == "island_one"]


def test_the_numbers_have_documented_names(model):
    value = json.loads(json.dumps(blimp(model, make_pairs(6)).to_dict()))
    assert value["num_pairs"] == 6
    assert value["num_paradigms"] == 3
    assert value["is_whole"] is False
    assert 0 <= value["low"] <= value["blimp_accuracy"] <= value["high"] <= 1
    assert value["start"] == "eos"
    assert "Wilson" in value["interval"]
    assert value["paradigms"]["island_one"].keys() == {"accuracy", "low", "high", "num_asked", "num_ties"}
    assert NUM_PARADIGMS == 67


@pytest.mark.parametrize(
    ("num_paradigms", "num_pairs", "is_whole"), [(67, 67_000, True), (67, 2010, False), (66, 67_000, False)]
)
def test_the_first_pairs_of_every_file_are_not_the_whole(num_paradigms, num_pairs, is_whole):
    overall = Accuracy(0.75, 0.7, 0.8, num_asked=num_pairs, num_ties=0)
    paradigms = {f"paradigm_{number}": overall for number in range(num_paradigms)}
    found = BlimpResult(overall, paradigms, phenomena={}, fields={}, start="eos", space=False)
    assert found.to_dict()["is_whole"] is is_whole


@pytest.mark.parametrize("missing", ["sentence_good", "sentence_bad", "UID", "field", "linguistics_term"])
def test_a_missing_field_is_named(write_lines, missing):
    record = line(make_pairs(1)[0])
    del record[missing]
    path = write_lines("a.jsonl", line(make_pairs(1)[0]), record)
    with pytest.raises(UserError, match=f'a.jsonl line 2 has no field "{missing}"'):
        list(read_pairs(path))


def test_a_paradigm_of_two_phenomena_is_refused(write_lines):
    pair = make_pairs(1)[0]
    path = write_lines("a.jsonl", line(pair), line(pair, linguistics_term="other"))
    with pytest.raises(UserError, match="line 2 are not those of earlier lines of the paradigm 'anaphor_one'"):
        list(read_pairs(path))


def test_no_pair_and_no_token_are_refused(model, tiny_tokenmonster):
    with pytest.raises(UserError, match="there is no pair of sentences"):
        blimp(model, [])
    poor = LanguageModel(model.network, tiny_tokenmonster)
    with pytest.raises(UserError, match=r"the vocabulary has no token for '.x00', of a"):
        blimp(poor, [Pair("the people", "\x00", "a", "x", "f")])


def test_long_sentences_are_cut_and_counted_or_refused(model):
    same = "the people of this world " * 9
    result = blimp(model, [Pair(same + "were here", same + "here were", "a", "x", "f")])
    assert result.num_cut == 1
    assert result.to_dict()["num_cut"] == 1
    with pytest.raises(UserError, match="longer than the model's context of 48"):
        blimp(model, [Pair("one " + same, "two " + same, "a", "x", "f")])
